# Response: what waits, what is in effect, the ledger, playbooks, what is never blocked.
response-about = What was done about alerts, what waits for you, and how to take it back.
response-tab-waiting = Waiting
response-tab-effect = In effect
response-tab-ledger = Ledger
response-tab-executions = Executions
response-tab-playbooks = Playbooks
response-tab-allow = Allow-list
response-tab-steps = Steps
response-tab-dry-run = Dry run
response-tab-past = Rehearsal
response-tab-revisions = Revisions

# What everything here has.
response-action = Action
response-target = Target
response-state = State
response-place = Where
response-cause = Cause
response-time = When
response-left = Time left
response-by = Ordered by
response-by-playbook = Playbook “{ $name }”
response-by-hand = By hand
response-alert = Alert
response-rule = Rule
response-id = Id
response-since = Since
response-until = Until
response-reason = Reason
response-because = Because of
response-execution = Execution
response-playbook = Playbook
response-manager = Manager
response-probe = Probe
response-lasting = Cannot be taken back
response-all = All
response-all-kinds = All actions
response-no-end = No end
response-action-on = { $action }: { $target }

# Stopping.
response-halt = Stop all automatic answers
response-halt-title = Stop all automatic answers?
response-halt-do = Stop
response-halt-what = No playbook acts any more, on no host and in no cloud account, until somebody lets them go on. Detection goes on. What is under way ends before its next step.
response-halt-reason = Reason
response-halt-reason-help = Everybody who opens the console reads it.
response-halt-undo = Take back what is in effect, too
response-halt-undo-about = All blocks end at once: attackers who are blocked now can come again.
response-halt-stays = What is in effect stays until its time is up.
response-halt-stopped = All automatic answers are stopped.
response-halt-resumed = Automatic answers go on.
response-resume = Let automatic answers go on
response-resume-title = Let automatic answers go on?
response-resume-do = Go on
response-resume-what = Playbooks act again on what happens from now on. What was missed meanwhile is not made up for.
response-halted = Automatic answers are stopped
response-halted-since = Since { $time }, by { $by }: { $reason }
response-halted-host = { $host }: stopped
response-halted-host-soon = { $host }: has not said yet that it stopped
response-halted-host-away = { $host }: away, stops when it connects

# Waiting.
response-waiting-none = Nothing waits for you
response-waiting-none-about = Questions of playbooks, blocks that need your word to stay, and orders that lack a signature appear here.
response-questions = Questions of playbooks
response-questions-about = The first no ends a playbook. Nothing is done before enough people said yes.
response-left-to-answer = { $left } left
response-begun-at = Begun at { $time }
response-silence = Without an answer
response-otherwise-allow = It goes on as after a yes.
response-otherwise-deny = It ends as after a no.
response-persons = People
response-persons-of = { $given } of { $persons } said yes
response-answered = Answers
response-said-yes = { $who } said yes.
response-said-no = { $who } said no.
response-said-yes-at = { $who } said yes at { $time }.
response-said-no-at = { $who } said no at { $time }.
response-if-yes = Yes
response-if-yes-ends = Nothing more follows; the playbook is done.
response-if-no = No
response-if-no-stop = The playbook ends. What it did before stays.
response-if-no-undo = The playbook ends, and what it did before is taken back.
response-if-no-continue = The playbook goes on with its next step.
response-yes = Yes, go on
response-no = No
response-sure-yes = “{ $name }” goes on with its steps at once. The answer cannot be changed; what is done by it can be taken back where the steps do not say otherwise.
response-sure-no = “{ $name }” does not go on. The answer cannot be changed.
response-comment = Comment
response-comment-about = Whoever reads the execution sees it.
response-answered-yes = Your yes counts.
response-answered-no = Your no counts.
response-provisional = Provisional
response-provisional-title = Provisional until somebody confirms
response-provisional-about = What can hit many goes into effect for a short time and is taken back by the host, unless you say that it works as meant.
response-provisional-silence = The host takes it back.
response-confirm = Let it stay
response-confirm-title = Let it stay?
response-confirm-what = { $action }: { $target } ({ $place }). It stays until its own end, and can still be taken back.
response-confirmed = It stays: { $action }, { $target }
response-orders = Orders that lack a signature
response-orders-about = Hosts carry these out only when their operators have signed. Keys of operators never lie on the manager.
response-orders-undo = Taking back action { $id }
response-orders-lacks = { $count ->
    [one] { $count } signature missing
   *[other] { $count } signatures missing
}
response-orders-unheard = The host has not answered
response-orders-signed = Signed by
response-orders-signers = Who may sign
response-orders-how = An operator exports the order, signs it where the key lies, and hands the signature in:
response-orders-commands = Commands to sign the order

# In effect.
response-in-effect = In effect now
response-in-effect-about = What was done and still holds. Each ends by itself when its time is up.
response-in-effect-none = Nothing is in effect
response-in-effect-none-about = Blocks and other actions appear here while they hold. What was done before is in the ledger.
response-in-effect-more = There are more than can be shown; the ledger has all.
response-to-ledger = Open the ledger

# Taking back.
response-undo = Undo
response-undo-title = Take it back?
response-undo-what = { $action }: { $target } ({ $place }). It ends now.
response-undo-grace = An alert does not do the same again for the policy’s grace time. The undo cannot be undone, but the action can be ordered again.
response-undo-begun = Being taken back: { $action }, { $target }
response-undo-kind = Undo all of this kind
response-undo-kind-title = Take back all of this kind?
response-undo-kind-what = { $action }: { $count ->
    [one] one that is in effect ends now, on every host.
   *[other] all { $count } that are in effect end now, on every host.
}
response-undo-kind-begun = { $count ->
    [one] One action is being taken back.
   *[other] { $count } actions are being taken back.
}
response-undo-execution = Undo all of it
response-undo-execution-title = Take back all that this execution did?
response-undo-execution-what = Its actions are taken back, the last first. What cannot be taken back stays; a playbook that still runs goes no further.
response-undo-execution-begun = The execution is being taken back.
response-undo-can = It can be taken back.
response-undo-now = It is being taken back.
response-undo-never = What this action does cannot be taken back.
response-undo-over = It is not in effect; there is nothing to take back.

# Ledger.
response-ledger = Ledger
response-ledger-about = Every action, the newest first.
response-ledger-none = Nothing was done yet
response-ledger-none-about = When an alert leads to an answer it is written here, with its cause and how it ended.
response-ledger-nothing = Nothing fits
response-ledger-nothing-about = Change or clear the filters.
response-target-exact = Exactly: 192.0.2.7
response-reason-about = It stands in the history of the policy of all servers.
response-find = Find in the records
response-find-in = rule, person, reason …
response-took-effect = Took effect, ended or not
response-since-time = Since { $time }
response-any-time = Any time
response-only-probes = Only probes
response-no-probes = Without probes
response-probes-too = Both
response-of-alert = Of the alert
response-all-alerts = Show all
response-order = Order
response-times = Times
response-inputs = Inputs
response-former = Former state
response-former-about = What was there before; an undo puts it back.
response-events = Events behind it
response-target-kind = Kind of target
response-target-network = Address or network
response-target-channel = Channel
response-target-file = File
response-target-setting = Setting
response-target-resource = Resource
response-via = Through the proxy
response-folded = Repeats
response-folded-count = { $count } more orders for the same target
response-planned = Ordered
response-done = In effect
response-expires = Ends
response-expires-most = Ends at the latest
response-prolonged = Prolonged
response-prolonged-count = { $count ->
    [one] once, by fresh evidence
   *[other] { $count } times, by fresh evidence
}
response-confirm-by = To be confirmed by
response-ended = Ended
response-undone-by = Taken back by
response-grace = Not repeated until

# Executions.
response-executions = Executions
response-executions-about = Playbooks at work on an alert, step by step.
response-executions-none = No playbook was at work yet
response-executions-none-about = Playbooks with steps appear here when they begin. Those that only order actions are in the ledger.
response-begun = Begun
response-asks = Asks people
response-no-event = Nothing was given to it.
response-no-steps = No step has begun yet.
response-step-question = Question
response-step-each = { $count ->
    [one] For one entry
   *[other] For { $count } entries, one after the other
}
response-step-retries = { $count ->
    [one] Tried once more
   *[other] Tried { $count } times more
}
response-step-until = At the longest until { $time }
response-to-action = Record
response-graph-then = As the playbook was when this began.

# Playbooks.
response-playbooks = Playbooks
response-playbooks-about = What is done about which alert. Open one to see its steps and what it would do.
response-playbooks-none = There is no playbook
response-playbooks-none-about = The bundle in force has none. Put one into playbooks/ of your content folder.
response-playbook-gone = There is no such playbook
response-playbook-gone-about = The bundle in force does not have it any more.
response-runs = Runs
response-on = On
response-off = Off
response-scope = Runs on
response-scope-host = Hosts
response-scope-wide = Manager
response-scope-host-about = On each host, with the manager away too
response-scope-wide-about = In the manager
response-trigger = Begun by
response-may-do = May do
response-act-lasting = { $action } (cannot be taken back)
response-driven = How it runs
response-stepwise = Step by step
response-plain = All at once
response-file = File
response-turn-on = Switch “{ $name }” on?
response-turn-off = Switch “{ $name }” off?
response-turn-on-do = Switch on
response-turn-off-do = Switch off
response-turn-on-what = From now on it does these by itself, with each trigger that fits ({ $trigger }):
response-turn-on-manual = From now on people can begin it, and it may do:
response-turn-on-lasting = What is marked cannot be taken back.
response-turn-on-host = It runs on every host of this tenant. You can switch it off at any time.
response-turn-on-wide = What acts in a cloud account needs the account’s rights. You can switch it off at any time.
response-turn-off-what = It begins no more. What it did stays in effect until its time is up, and can be taken back. You can switch it on again.
response-turned-on = “{ $name }” is on.
response-turned-off = “{ $name }” is off.

# One playbook.
response-graph = What it does
response-graph-about = Choose a step to see its lines.
response-text = Text
response-when = if
response-only-when = only if
response-on-target = on
response-limits = Limits
response-limits-most = At most { $most } actions within { $within }
response-limits-share = At most { $share } % of the hosts within { $within }
response-limits-ask = Beyond, { $channel } is asked.
response-limits-refuse = Beyond, it is refused.
response-quiet = Quiet hours
response-quiet-hours = { $from } to { $to } ({ $zone })
response-quiet-wait = It begins when they end.
response-quiet-skip = Nothing is done then.
response-quiet-ask = People are asked then.
response-stop-when = Stops when
response-approval = Ask people
response-approval-asks = { $persons ->
    [one] { $channel } is told; one yes within { $within }
   *[other] { $channel } is told; { $persons } people say yes within { $within }
}
response-wait = Wait { $time }
response-parallel = Beside each other
response-each = For each of
response-unknown-step = A step that this console does not know
response-fact-expiry = for
response-fact-retries = retries
response-fact-timeout = time-out
response-fact-most = at most
response-on-failure-undo = If it fails: all before is taken back
response-on-failure-stop = If it fails: it ends, what was done stays
response-on-no-stop = No: it ends, what was done stays
response-on-no-undo = No: all before is taken back
response-revision = Revision
response-revision-current = Since { $time }, in force
response-revision-since = Since { $time }
response-revisions-about = An execution keeps the text that it began with.
response-revisions-none = No text was noted yet: that happens when the playbook first begins.

# Dry run and rehearsal.
response-dry-about = What it would do, step by step, if every action succeeds and people say yes. Nothing is done.
response-dry-of = About
response-dry-alert = { $time } · { $rule } · { $source } · { $host }
response-dry-hand = An event written by hand
response-dry-nothing = Nothing: as the clock or a person would begin it
response-dry-event = Event, as nested ECS JSON
response-dry-wrong = This is no JSON object yet.
response-dry-run = Run dry
response-dry-host = It runs on the hosts
response-dry-host-about = Its actions follow on the host from the alert at once. The rehearsal shows what it would have done.
response-dry-not = It would not begin
response-dry-ends = Ends
response-dry-nothing-done = Nothing would be done.
response-would-order = { $action }: { $target }
response-would-until = { $action }: { $target }, until { $end }
response-would-ask = Ask { $channel }, and go on if it is allowed
response-would-wait = Wait until { $time }
response-would-back = Take back { $id }
response-would-skipped = Left out:
response-would-failed = Fails:
response-would-lasting = (cannot be taken back)
response-begin = Begin it
response-begin-title = Begin “{ $name }” now?
response-begin-do = Begin
response-begin-what = Its steps are carried out for real. You can follow them, and take them back.
response-begun-now = “{ $name }” has begun.
response-past-about = What it would have done about the alerts of the past, its limits included. Nothing is done.
response-past-days = Time
response-past-last = { $days ->
    [one] The last day
   *[other] The last { $days } days
}
response-past-run = Rehearse
response-past-figures = What would have happened
response-past-more = There were more alerts; the oldest were left out.
response-past-looked = alerts and findings looked at
response-past-begun = would have begun it
response-past-hosts = hosts
response-past-targets = { $count ->
    [one] one target
   *[other] { $count } different targets
}
response-past-ends = How they would have ended:
response-past-end = { $state }: { $count }
response-past-told = Alert by alert
response-past-told-about = The newest hundred.
response-past-would = What would have been done
response-past-none = Nothing would have begun it
response-past-none-about = No alert of this time fits its trigger and condition. Choose a longer time.

# Allow-list.
response-allow = Never blocked
response-allow-about = Your own offices, scanners, partners. No playbook and no person blocks them, on no host and in no WAF.
response-allow-none = Nothing is listed yet.
response-trusted_proxies = Trusted proxies
response-trusted_proxies-about = Load balancers and proxies of yours. They are never blocked, and behind them the real client is blocked instead.
response-trusted_proxies-none = No proxy is listed yet.
response-network = Address or network
response-network-help = 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32
response-network-form = This is neither an address nor a network.
response-network-prefix = The length of the prefix does not fit.
response-network-there = It is listed already.
response-add = Add
response-remove = Remove { $value }
response-remove-title = Remove { $value }?
response-remove-do = Remove
response-remove-what = From now on it can be blocked. What would have been blocked before is not made up for. You can add it again.
response-allow-added = { $value } is listed.
response-allow-removed = { $value } is listed no more.
response-allow-others = Other layers say something of their own: { $layers }.
response-guard = Protected anyway
response-guard-about = Without being listed, a host never blocks these.
response-guard-own = Its own addresses
response-guard-gateways = Its gateways
response-guard-resolvers = Its name servers
response-guard-manager = The manager, and the proxy on the way to it
response-guard-ssh = Peers of established ssh sessions
response-guard-operators = Addresses from which operators are signed in here
response-guard-special = Loopback, link-local and multicast addresses
response-guard-wide = Networks wider than /8 (IPv6: /16)
