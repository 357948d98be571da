-- Budgets: which accounts a request is charged to, and what each account was charged in all. The sums are kept by the
-- statement that inserts the records, so they are exactly the ledger, and nobody ever has to scan it for them.

ALTER TABLE requests ADD COLUMN budget_accounts jsonb NOT NULL DEFAULT '[]'
    CHECK (jsonb_typeof(budget_accounts) = 'array');
COMMENT ON COLUMN requests.budget_accounts IS 'Accounts of budgets that the cost counts for: budget/period/value.';

CREATE TABLE budget_spend (
    tenant_id  text        NOT NULL,
    account    text        NOT NULL,
    micro_usd  numeric     NOT NULL CHECK (micro_usd >= 0),
    requests   bigint      NOT NULL,
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, account)
);
COMMENT ON TABLE budget_spend IS 'What the ledger holds by account of a budget. Each request counts in whole micro-USD, rounded up.';
COMMENT ON COLUMN budget_spend.account IS 'budget/period/value; the period is a UTC day, a UTC month or total.';

CREATE FUNCTION add_budget_spend() RETURNS trigger
LANGUAGE plpgsql
AS $$
BEGIN
    -- In the order of the key: two writers that charge the same accounts must not lock each other out.
    INSERT INTO budget_spend AS spend (tenant_id, account, micro_usd, requests)
    SELECT tenant_id, account, sum(ceil(cost_exact * 1000000)), count(*)
    FROM added CROSS JOIN LATERAL jsonb_array_elements_text(budget_accounts) AS account
    GROUP BY tenant_id, account
    ORDER BY tenant_id, account
    ON CONFLICT (tenant_id, account) DO UPDATE
    SET micro_usd = spend.micro_usd + excluded.micro_usd,
        requests = spend.requests + excluded.requests,
        updated_at = now();
    RETURN NULL;
END
$$;

-- For each statement on the whole table: moving rows into a new month's partition inserts into that partition, and so
-- counts nothing twice.
CREATE TRIGGER requests_budget_spend AFTER INSERT ON requests
    REFERENCING NEW TABLE AS added
    FOR EACH STATEMENT EXECUTE FUNCTION add_budget_spend();
