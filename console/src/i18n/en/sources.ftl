sources-about = Everything that arrives is stored, unreadable lines too; what was lost is counted.
sources-none = No log source yet
sources-none-about = Enrol a server, or open a way in for what others send; it appears here with its first event.
sources-count =
    { $count ->
        [one] One source
       *[other] { $count } sources
    }
sources-more = There are more than are shown.
sources-show = Show
sources-show-all = All ({ $count })
sources-show-quiet = Fell silent ({ $count })
sources-show-unread = Cannot be read ({ $count })
sources-show-lost = Lost something ({ $count })
sources-well = None of these
sources-health = Health
sources-health-well = well
sources-health-quiet = fell silent
sources-health-unread = unreadable lines
sources-health-unknown = nothing today
sources-stream = Source
sources-host = From
sources-rate = Rate
sources-a-second = { $rate } /s
sources-hour = Last hour
sources-lag = Lag
sources-under-a-second = < 1 s
sources-unread = Unreadable
sources-last = Last event
sources-books = Books
sources-lost =
    { $count ->
        [one] one lost
       *[other] { $count } lost
    }
sources-balanced = balance
sources-unbalanced = do not balance
