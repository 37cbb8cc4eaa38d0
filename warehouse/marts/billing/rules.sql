--| description = "Rules of law and of the market that change by date: a row holds from its local day on, until the next"

-- `kind` is a kind of contract and `technology` one of plants, or '*'. A row for a contract's kind and technology stands in
-- place of one for all. Where a rule changes, add a row, and leave the others: they still count for what was delivered before.
SELECT rule, kind, technology, valid_from, value, source
FROM (VALUES
  ('settlement_step_s', '*', '*', DATE '1990-01-01', '1800', 'RTE, rules on balance responsibility'),
  ('settlement_step_s', '*', '*', DATE '2025-01-01', '900', 'regulation (EU) 2019/943, article 8(4), and CRE''s consultation 2025-01'),
  ('day_ahead_step_s', '*', '*', DATE '1990-01-01', '3600', 'single day-ahead coupling'),
  ('day_ahead_step_s', '*', '*', DATE '2025-10-01', '900', 'single day-ahead coupling, deliveries since 2025-10-01'),
  ('price_of_hour', 'CR', '*', DATE '2016-01-01', 'mean', 'code de l''énergie, R. 314-39: hours count; since 2025-10-01 the DGEC''s instruction: the mean of the four quarters to two decimals, until an order says otherwise'),
  ('m0_period', 'CR', 'hydro', DATE '2016-12-15', 'year', 'order of 13 December 2016 (DEVR1636688A)'),
  ('negative_premium_share', 'CR', 'solar', DATE '2016-01-01', '0.5', 'order of 23 April 2018; of tenders, compare the specifications'),
  ('negative_premium_free_hours', 'CR', 'solar', DATE '2016-01-01', '15', 'the same'),
  ('negative_premium_from_hour', 'CR', 'solar', DATE '2016-01-01', '8', 'the same'),
  ('negative_premium_to_hour', 'CR', 'solar', DATE '2016-01-01', '20', 'the same'),
  -- Its hours are those below -0.10 EUR/MWh that CRE does not list, and standing still is less than 1% of the installed power.
  ('negative_premium_order', 'CR', '*', DATE '2025-10-01', '8 September 2025', 'order of 8 September 2025, for article 175, IV A of law 2025-127')
) AS r (rule, kind, technology, valid_from, value, source)
