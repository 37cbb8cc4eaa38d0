--| description = "Of each billed version of a contract: how many of its steps were billed from the operator's meter"

SELECT period, producer_id, contract_id, prm, valid_from, steps, sources,
       coalesce(CAST(nullif(regexp_replace(billed, '^.*DSO_CORRECTED:([0-9]+).*$', '\1'), billed) AS bigint), 0)
       + coalesce(CAST(nullif(regexp_replace(billed, '^.*DSO_RAW:([0-9]+).*$', '\1'), billed) AS bigint), 0) AS from_operator
FROM (SELECT DISTINCT period, producer_id, contract_id, prm, valid_from, steps, sources,
             split_part(sources, ' auxiliaries=', 1) AS billed
      FROM billing.bills) AS b
