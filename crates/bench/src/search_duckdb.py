# What `sakimori-bench search` asks of DuckDB, over the same files; prints JSON: name -> seconds (median) and found.
import json
import statistics
import sys
import time

import duckdb

asked = json.load(open(sys.argv[1]))
connection = duckdb.connect()
connection.execute(f"SET threads = {asked['threads']}")
connection.execute("SET TimeZone = 'UTC'")
connection.execute(
    "CREATE VIEW events AS SELECT * FROM read_parquet($files, hive_partitioning = true, hive_types_autocast = false, "
    "union_by_name = false)".replace("$files", json.dumps(asked["files"]).replace('"', "'"))
)
order = f'ORDER BY "sakimori.time" DESC LIMIT {asked["page"]}'
texts = [
    "message", "event.original", "error.message", "rule.name", "user.name", "host.name", "source.ip", "process.name",
    "process.command_line", "url.original", "file.path",
]
contains = " OR ".join(f"\"{name}\" ILIKE '%quillon-7f3%'" for name in texts)
bucket = (
    f"(epoch_us(\"sakimori.time\") // 1000000) // {asked['width']}"
)
span = f"\"sakimori.time\" >= TIMESTAMPTZ '{asked['from']}' AND \"sakimori.time\" < TIMESTAMPTZ '{asked['to']}'"
questions = {
    "first rows of all": f"SELECT * FROM events {order}",
    "first rows of failures": f"SELECT * FROM events WHERE \"event.outcome\" = 'failure' {order}",
    "first rows of alerts": f"SELECT * FROM events WHERE \"event.kind\" = 'alert' {order}",
    "needle: user": f"SELECT * FROM events WHERE \"user.name\" = '{asked['user']}' {order}",
    "needle: address": f"SELECT * FROM events WHERE \"source.ip\" = '{asked['address']}' {order}",
    "needle: network": f"SELECT * FROM events WHERE \"source.ip\" LIKE '198.19.255.%' {order}",
    "needle: text": f"SELECT * FROM events WHERE {contains} {order}",
    "counts over time by outcome": f"SELECT {bucket}, \"event.outcome\", count(*) AS n FROM events WHERE {span} GROUP BY 1, 2",
    "top addresses of all": 'SELECT "source.ip", count(*) AS n FROM events WHERE "source.ip" IS NOT NULL '
    'GROUP BY 1 ORDER BY n DESC, 1 LIMIT 20',
    "number up to 10,000": "SELECT count(*) AS n FROM (SELECT 1 FROM events WHERE \"event.outcome\" = 'failure' LIMIT 10000)",
}
counted = {"counts over time by outcome", "top addresses of all", "number up to 10,000"}
out = {}
for name, sql in questions.items():
    times = []
    for _ in range(asked["rounds"]):
        began = time.perf_counter()
        rows = connection.execute(sql).fetchall()
        times.append(time.perf_counter() - began)
    found = sum(row[-1] for row in rows) if name in counted else len(rows)
    out[name] = {"seconds": statistics.median(times), "found": found}
print(json.dumps(out))
