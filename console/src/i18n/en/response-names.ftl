# Names of actions, states, triggers, and what the manager often says.
response-action-block_address = Block an address on the host
response-action-quarantine_file = Quarantine a file on the host
response-action-isolate_host = Isolate a host
response-action-lock_user = Lock a user of a host
response-action-freeze_processes = Freeze a process and what descends from it
response-action-kill_tree = End a process and what descends from it
response-action-collect_triage = Collect a triage package of a host
response-action-scan_paths = Scan paths on the host for malware
response-action-prevent_mode = Let a module act
response-action-waf_block = Block an address in AWS WAF
response-action-waf_rate_rule = Limit the rate of requests in AWS WAF
response-action-waf_shape_rule = Put an attack’s shape into AWS WAF
response-action-notify = Send a message
response-action-instance_isolate = Isolate an instance
response-action-instance_detach = Detach an instance from its load balancers
response-action-instance_replace = Replace an instance in its Auto Scaling group
response-action-instance_stop = Stop an instance
response-action-instance_terminate = Terminate an instance
response-action-instance_collect = Collect triage data from an instance
response-action-disks_snapshot = Snapshot the disks of an instance
response-action-desktop_isolate = Isolate a virtual desktop
response-action-desktop_stop = Stop a virtual desktop
response-action-access_key_deactivate = Deactivate an access key
response-action-sessions_revoke = Revoke the sessions of an identity
response-action-identity_quarantine = Quarantine an identity
response-action-bucket_close = Close a public bucket
response-action-bucket_deny = Deny access to a bucket
response-action-function_stop = Stop a Lambda function
response-action-pipeline_stop = Stop the executions of a pipeline
response-action-pipeline_transition_disable = Close a stage of a pipeline
response-action-port_close = Close a port of a security group

# States of actions and steps.
response-state-planned = Planned
response-state-approved = Allowed
response-state-running = Being done
response-state-done = Done
response-state-undoing = Being undone
response-state-undone = Undone
response-state-expired = Expired
response-state-no_effect = No effect
response-state-refused = Refused
response-state-failed = Failed
response-state-ordered = Under way
response-state-waiting = Waiting
response-state-skipped = Left out
response-state-kept = Stays

# States of executions.
response-ends-running = Running
response-ends-undoing = Being undone
response-ends-done = Done
response-ends-stopped = Stopped
response-ends-denied = Not allowed
response-ends-skipped = Skipped
response-ends-failed = Failed
response-ends-compensated = Failed, and taken back
response-ends-undone = Undone

response-trigger-alert = An alert
response-trigger-finding = A finding
response-trigger-schedule = The clock
response-trigger-manual = A person
response-trigger-webhook = A signed request
response-trigger-fact-rules = of the rules
response-trigger-fact-severity_at_least = severity at least
response-trigger-fact-datasets = of the data sets
response-trigger-fact-cron = at
response-trigger-fact-zone = local time of
response-trigger-fact-way = by the way in

# What the manager often says.
response-reason-condition = Its condition is false.
response-reason-allowed = Allowed by { $who }.
response-reason-denied = Denied by { $who }.
response-reason-silence = Nobody answered in time.
response-reason-silence-allows = Nobody answered; that allows it.
response-reason-unsent = The question could not be sent to anybody.
response-reason-taken-back = Taken back by { $who }.
response-reason-stops = Its stop condition holds.
response-reason-late = It took longer than its time-out.
response-reason-host-late = Its host did not take the order in time.
response-reason-probe-over = The probe is answered.
response-reason-probe-stays = What follows from a probe stays on the host.
response-reason-cloud-off = Cloud actions are off until cloud.waf is configured.
