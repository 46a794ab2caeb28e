search-in = What is searched
search-alerts = Alerts
search-events = Events
search-sql = SQL
search-query = Query
search-hint = For example source.ip:198.51.100.0/24 and not user.name:ro*
search-hint-short = source.ip:198.51.100.0/24
search-ask = Search
search-span = Span
search-last = Last { $span }
search-now = now
search-exact = From … to …
search-from = From
search-to = To
search-use-span = Search this time
search-again = Search again
search-over-time = Matches over time
search-nothing-to-draw = Nothing in this time.
search-counting = Counting
search-found =
    { $count ->
        [one] One match
       *[other] { $count } matches
    }
search-more-than = More than { $count } matches
search-took = { $took } ms
search-fresh =
    { $count ->
        [one] Show one new
       *[other] Show { $count } new
    }
search-results = Results
search-time = Time
search-status = Status
search-status-open = open
search-status-acknowledged = looked at
search-status-closed = closed
search-status-suppressed = suppressed
search-make-acknowledged = I am looking at it
search-make-closed = Close
search-make-open = Open again
search-comment = Comment
search-triaged = The alert is now: { $status }
search-no-alerts = No alert
search-no-events = No event
search-nothing = Nothing happened in this time.
search-nothing-asked = Nothing in this time matches the query.
search-widen = Look at everything of the last 30 days
search-columns = Columns
search-columns-find = Find a field
search-export = Export
search-export-csv = Table as CSV
search-export-ndjson = Whole events as NDJSON
search-saved-ones = Saved searches
search-none-saved = No search is saved yet.
search-save-as = Save this search as
search-share = Everybody here sees it
search-save = Save the search
search-saved = The search is saved.
search-shared = shared
search-forget = Delete “{ $name }”
search-forgotten = The search is deleted.
search-sql-title = One SELECT over events
search-sql-about = Columns are the fields in double quotes. Ctrl Enter runs it.
search-run = Run
search-rows =
    { $count ->
        [one] One row
       *[other] { $count } rows
    }
search-rows-more = There are more; these are the first.
search-no-rows = No row
search-event = Event
search-views = Views of the event
search-view-why = Why
search-view-fields = Fields
search-view-original = Original
search-view-related = Related
search-no-original = This event was made by Sakimori; there is no original line.
search-only = Only events with this { $field }
search-without = Only events without this { $field }
search-done = What was done
search-causes = Made of
search-led-to = Led to
search-all-of = Search all { $count }
search-all-more = Search all, more than { $count }
search-alone = Nothing around it shares anything with it.
search-version = version { $version }
search-counting-rule = { $count } matches of { $rules } within { $span } for { $group }.
search-rule-text = The rule
search-matched = matched
search-not-matched = did not match, as it should
search-any-field = any text
search-contents = What it looks for
search-not-kept = not kept
search-field-event-severity = Severity
search-field-rule-name = Rule
search-field-host-name = Server
search-field-source-ip = From
search-field-user-name = User
search-field-event-dataset = Kind
search-field-event-action = What
search-field-message = Message
search-probe = Probe of the agent’s own
