rules-about = What is recognised, how often, and what is too loud.
rules-list = All rules
rules-noisy = Noisy
rules-exceptions = Exceptions
rules-check = Write and check
rules-count =
    { $count ->
        [one] One rule
       *[other] { $count } rules
    }
rules-bundle = Bundle { $bundle }
rules-find = Find
rules-rule = Rule
rules-language = Language
rules-severity = Severity
rules-state = State
rules-sort = Order
rules-sort-id = by id
rules-sort-hits = most hits first
rules-any-language = Any
rules-any-severity = Any
rules-any-state = Any
rules-week = 7 days
rules-day = 24 hours
rules-month = 30 days
rules-last = Last fired
rules-no-match = No rule fits
rules-differs = differs by group
rules-hits = Hits
rules-text = Text
rules-tests = Tests
rules-run-tests = Run the tests
rules-tests-passed =
    { $count ->
        [one] One case passed
       *[other] { $count } cases passed
    }
rules-tests-failed =
    { $count ->
        [one] One failed
       *[other] { $count } failed
    }
rules-by = set by: { $layer }
rules-where = Where
rules-scope-host = on the server, without the manager too
rules-scope-wide = in the manager, over all servers
rules-source = Source
rules-source-built-in = built in
rules-source-own = your own
rules-group = Group
rules-references = See
rules-show-alerts = Show the alerts
rules-held-back =
    { $count ->
        [one] one held back by exceptions
       *[other] { $count } held back by exceptions
    }
rules-switch = Switch
rules-switched = The rule is switched; servers take it with their next policy.
rules-for = For
rules-reason = Reason
rules-prevent-about = It drops what it matches. If good traffic looks the same, that is dropped too: look at what it would have hit first. The change takes itself back unless servers still answer.
rules-except = Make an exception
rules-except-title = Exception to “{ $rule }”
rules-except-about = Alerts that it holds back are still stored and counted; nobody is told of them and no playbook of the manager acts on them.
rules-except-make = Make the exception
rules-excepted = The exception holds.
rules-condition = Only alerts where
rules-condition-about = In the search language, such as source.ip:192.0.2.7; empty: all alerts of the rule.
rules-group-only = Only servers of the group
rules-group-about = Empty: all servers.
rules-owner = Who answers for it
rules-days = Days
rules-days-about = Then it ends by itself, 365 at the most.
rules-would-hold = In the last seven days it would have held back { $held } of { $all }.
rules-exceptions-about = Each has a reason, an owner and an end.
rules-ended-too = Also those that ended
rules-no-exception = No exception
rules-no-exception-about = Where a rule speaks of what is expected here, an exception is better than switching the rule off.
rules-used = Held back
rules-ends = Ends
rules-has-ended = ended
rules-soon = soon
rules-longer = Prolong
rules-longer-title = Prolong the exception
rules-longer-about = It holds for 90 days from now. Is what it says still true?
rules-except-remove = Remove the exception
rules-except-remove-about = Alerts like these are told again from now on.
rules-except-removed = The exception is removed.
rules-noisy-about = A rule that speaks all day is soon heard by nobody.
rules-span = Span
rules-last-days =
    { $days ->
        [one] Last day
       *[other] Last { $days } days
    }
rules-none-noisy = No rule is noisy
rules-none-noisy-about = No rule raises more alerts than a person can look at.
rules-a-day = { $count } a day on { $hosts ->
        [one] one server
       *[other] { $hosts } servers
    }
rules-false = { $share } of { $closed } closed ones were false.
rules-proposal = An exception for { $condition } would hold back { $share }.
rules-look-at-proposal = Look at it
rules-check-about = The text is checked as the manager would load it. It stays in this browser; rules go in with a bundle.
rules-draft = Draft
rules-nothing-wrong = Nothing is wrong with it.
language-sigma = Sigma
language-correlation = Correlation
language-suricata = Network
language-yara = YARA
language-hash = Hash list
language-vrl = VRL
language-playbook = Playbook
language-policy = Policy
rule-state-on = on
rule-state-off = off
rule-state-detect = detect
rule-state-prevent = prevent
rule-state-trial = trial
rule-state-inherit = as the layers above
rule-state-off-about = It does nothing.
rule-state-detect-about = It records.
rule-state-prevent-about = It records and drops.
rule-state-inherit-about = This layer says nothing of it.
