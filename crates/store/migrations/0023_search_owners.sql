-- Owners of saved searches: one over all tenants is told apart from one of the tenant who has the same name. A search whose
-- owner the tenant does not have is of one over all.
UPDATE searches SET owner = owner || '@*' WHERE
    NOT EXISTS (SELECT 1 FROM users WHERE users.tenant = searches.tenant AND searches.owner = 'user:' || users.name)
    AND NOT EXISTS (SELECT 1 FROM api_tokens WHERE api_tokens.tenant = searches.tenant AND searches.owner = 'token:' || api_tokens.name)
    AND (EXISTS (SELECT 1 FROM users WHERE users.tenant = '*' AND searches.owner = 'user:' || users.name)
        OR EXISTS (SELECT 1 FROM api_tokens WHERE api_tokens.tenant = '*' AND searches.owner = 'token:' || api_tokens.name));
