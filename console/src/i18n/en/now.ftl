now-about = What happens on the protected servers, and what was done about it.
now-span = Span
now-hours =
    { $hours ->
        [1] Last hour
        [72] Last 3 days
        [168] Last 7 days
       *[other] Last { $hours } hours
    }
now-all = Show all
now-waits =
    { $count ->
        [one] One thing waits for a person
       *[other] { $count } things wait for a person
    }
now-until = until { $time }
now-orders =
    { $count ->
        [one] One order waits for its host or a signature
       *[other] { $count } orders wait for their host or a signature
    }
now-stopped =
    { $count ->
        [one] One attack stopped
       *[other] { $count } attacks stopped
    }
now-layer-waf = In front of the servers
now-layer-waf-note = addresses put into AWS WAF
now-layer-ips_prevent = In the network traffic
now-layer-ips_prevent-note = requests dropped by intrusion prevention
now-layer-host_block = On the host
now-layer-host_block-note = addresses blocked in the firewall
now-layer-malware_denied = At the file
now-layer-malware_denied-note = malicious files nobody could open
now-quiet = Quiet
now-quiet-about = No attack was seen in this time. What is protected and how is below.
now-empty = No server is protected yet
now-empty-about = Enrol a server: three steps, and one command to copy.
now-enrol = Enrol a server
now-only-one = One server so far. Each further one takes three steps, and one command to copy.
now-alerts = Alerts
now-no-alerts = No alert in this time.
now-newest = Newest alerts
now-blocks = Blocks in effect: { $count }
now-no-blocks = Nobody is blocked at present.
now-in-waf = in AWS WAF
now-on-host = on the host
now-left = { $span } left
now-hosts = Servers
now-connected = connected
now-of = of { $total }
now-lacking = lack something
now-lack-disconnected = not connected
now-lack-failing = failing
now-lack-halted = stopped
now-lack-unproven = not proven
now-health = Health
now-ingest = Events
now-ingest-ready = are taken
now-ingest-not = are not taken
now-rate = Rate
now-per-second = { $rate } a second
now-newest-event = Newest event
now-waiting-hosts = Batches waiting on hosts
now-books = Books
now-balanced = balance
now-lost =
    { $count ->
        [one] One event was lost
       *[other] { $count } events were lost
    }
now-events = Arrived / stored
now-dead = Unreadable
now-disk = Disk
now-free = { $free } of { $size } free
