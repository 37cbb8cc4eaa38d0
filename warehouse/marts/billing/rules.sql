--| description = "Rules of law and of the market that change by date: a row holds from its local day on, until the next"

-- `kind` is a kind of contract and `technology` one of plants, or '*'. A row for a contract's kind and technology stands in
-- place of one for all. Where a rule changes, add a row, and leave the others: they still count for what was delivered before.
SELECT rule, kind, technology, valid_from, value, source
FROM (VALUES
  ('settlement_step_s', '*', '*', DATE '1990-01-01', '1800', 'RTE, rules on balance responsibility'),
  ('settlement_step_s', '*', '*', DATE '2025-01-01', '900', 'regulation (EU) 2017/2195, article 53, and RTE''s derogation until 2024-12-31'),
  ('day_ahead_step_s', '*', '*', DATE '1990-01-01', '3600', 'single day-ahead coupling'),
  ('day_ahead_step_s', '*', '*', DATE '2025-10-01', '900', 'single day-ahead coupling, deliveries since 2025-10-01'),
  ('price_of_hour', 'CR', '*', DATE '2025-10-01', 'mean', 'ministry''s instruction of 2025: mean of the four quarters, two decimals, until an order says otherwise'),
  ('m0_period', 'CR', 'hydro', DATE '2016-12-15', 'year', 'order of 13 December 2016 (DEVR1636688A)'),
  ('negative_premium_share', 'CR', 'solar', DATE '2016-01-01', '0.5', 'order of 23 April 2018, and the solar tenders'),
  ('negative_premium_free_hours', 'CR', 'solar', DATE '2016-01-01', '15', 'the same'),
  ('negative_premium_from_hour', 'CR', 'solar', DATE '2016-01-01', '8', 'the same'),
  ('negative_premium_to_hour', 'CR', 'solar', DATE '2016-01-01', '20', 'the same')
) AS r (rule, kind, technology, valid_from, value, source)
