servers-about = Which servers are protected, and whether that was proven today.
servers-enrol = Enrol a server
servers-none = No server yet
servers-none-about = Enrolling takes three steps: a name, one command to copy, and the server appears here.
servers-count =
    { $count ->
        [one] One server
       *[other] { $count } servers
    }
servers-find = Find
servers-no-match = No server is called like that
servers-host = Server
servers-state = State
servers-proven = Proof
servers-modules = Protection
servers-system = System
servers-seen = Last heard
servers-one = Server
servers-step-name = Say what it is
servers-step-copy = Run this on the server
servers-step-watch = It appears here
servers-name = Name of this enrolment
servers-name-about = For your list; the server keeps its own name.
servers-token-name = new server
servers-tags = Groups
servers-tags-about = Policies can be written for a group.
servers-how-many = How many servers
servers-uses =
    { $count ->
        [one] One server
       *[other] Up to { $count } servers
    }
servers-make = Make the command
servers-copy-about = On a Debian server, as root or as somebody who may use sudo: paste all of it at once. It fetches the agent from this manager by curl, compares it with the SHA-256 below, installs it and enrols the server. It ends at the first step that fails.
servers-copy-beside = As root, in a folder of the server where the package sakimori-agent_*.deb lies.
servers-copy-secret = It holds a secret, is good for a day, and is shown only now.
servers-package = The manager gives:
servers-no-package = This manager has no package to give. On the manager’s machine “make deb” in the project’s folder makes it; put it here, and make the command again:
servers-only-here = The command below works on the manager’s own machine only: other servers cannot reach the manager yet. Start it again with an address of this machine that they can reach, in the folder where “make up” was run, and then make the command anew. Only port 7601 is opened to them, by mutual TLS.
servers-only-here-commands = Commands to start the manager again
servers-address = ADDRESS
servers-waiting = Waiting for the server
servers-over = The command is not good any more: its day is over. Close this and make a new one.
servers-joined-about = It is protected by the policy in effect. Its page shows each module and its proof.
servers-done = Done
servers-halted = Answers stopped
servers-addresses = Addresses
servers-version = Agent
servers-rules = Rules
servers-rules-newest = newest (bundle { $bundle })
servers-rules-older = bundle { $bundle }, newest is { $newest }
servers-policy = Policy
servers-policy-taken = in effect (number { $number })
servers-policy-waits = on its way (number { $number })
servers-policy-about = Each value, and the layer that decided it.
servers-policy-own = Only what a layer sets
servers-policy-find = Find a setting
servers-policy-none = Every value is the built-in one.
servers-held = held by the host
servers-enrolled = Enrolled
servers-id = Id
servers-in-effect = In effect ({ $count })
servers-lately = Lately
servers-rules-loaded =
    { $count ->
        [one] { $count } rule is loaded
       *[other] { $count } rules are loaded
    }
servers-rules-refused =
    { $count ->
        [one] { $count } rule did not load: { $why }
       *[other] { $count } rules did not load, the first: { $why }
    }
servers-traffic = { $packets } packets judged, { $dropped } dropped
servers-traffic-unseen = Not seen: { $encrypted } encrypted connections, { $bytes } of answers passed over, { $unjudged } packets not judged in time
servers-restarts =
    { $count ->
        [one] Restarted once after a crash
       *[other] Restarted { $count } times after a crash
    }
servers-alerts = Alerts
servers-no-alerts = No alert.
servers-actions = Actions
servers-no-actions = Nothing was done here yet.
servers-all = Show all
servers-blocks = Blocked: { $count }
servers-no-blocks = Nobody is blocked here.
servers-to-confirm = waits for confirmation
servers-undo = Undo
servers-undo-title = Let the address in again
servers-undo-about = The block ends now. A playbook blocks it again if the attack goes on.
servers-undone = Ordered; the server carries it out.
servers-left = { $span } left
servers-quarantine = In quarantine: { $count }
servers-no-quarantine = No file is in quarantine.
servers-restore = Give back
servers-restore-title = Give the file back
servers-restore-about = The file is put back exactly as it was, although a rule found it malicious. Do this only if that was wrong.
servers-manage = More
servers-scan = Scan for malware
servers-scan-begin = Scan
servers-scan-paths = Paths
servers-scan-about = One a line.
servers-scan-ordered = { $host } will scan.
servers-revoke = Revoke the server
servers-revoke-about = { $host } is refused from now on and must be enrolled anew. What it sent stays.
servers-revoked = { $host } is revoked.
servers-forget = Forget the server
servers-forget-about = { $host } disappears from the list. Its events stay.
agent-connected = connected
agent-away = away
agent-silent = silent
agent-stopped = stopped
agent-retired = retired
agent-revoked = revoked
proof-proven = proven
proof-stale = stale
proof-unproven = not proven yet
proof-failing = failing
proof-off = off
proof-by-log_inspection = Failed logins in a log of the probe's own became an alert
proof-by-block_address = A block of the probe's own was treated as the policy says, and taken back
proof-by-antimalware = A harmless test file was treated as the policy says
proof-by-intrusion_prevention = A request for a path of the probe's own was treated as the policy says, and a harmless one was answered
proof-by-uplink = The manager has the events of the probe
module-log_inspection = Log inspection
module-block_address = Blocking
module-antimalware = Malware protection
module-intrusion_prevention = Intrusion prevention
module-agent = Agent
module-uplink = Connection to the manager
module-state-on = on
module-state-off = off
module-state-failing = failing
layer-default = built in
layer-tenant = all servers
