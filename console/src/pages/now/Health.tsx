// How events come in, whether the books balance, and whether there is room.
import type { Schemas } from "../../api/client";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Facts } from "../../parts/Page";
import { Dot } from "../../parts/State";
import { Ago } from "../../parts/Time";

/** Below this share the manager takes nothing new. */
const LITTLE = 0.1;

export function Health({ now }: { now: Schemas["Now"] }) {
  const text = useText();
  const format = useFormat();
  const { ingest, disk, books } = now;
  const little = disk.size > 0 && disk.free / disk.size < LITTLE * 1.5;
  return (
    <Facts
      items={[
        [text("now-ingest"), <Dot tone={ingest.ready ? "good" : "person"}>{ingest.ready ? text("now-ingest-ready") : text("now-ingest-not")}</Dot>],
        [text("now-rate"), text("now-per-second", { rate: format.number(Math.round(ingest.per_second * 10) / 10) })],
        [text("now-newest-event"), <Ago time={ingest.newest} />],
        [text("now-waiting-hosts"), format.number(ingest.waiting_on_hosts)],
        [text("now-books"), <Dot tone={books.lost > 0 ? "care" : "good"}>{books.lost > 0 ? text("now-lost", { count: books.lost }) : text("now-balanced")}</Dot>],
        [text("now-events"), `${format.number(books.arrived)} / ${format.number(books.stored)}`],
        [text("now-dead"), format.number(books.dead)],
        [text("now-disk"), <Dot tone={disk.full ? "person" : little ? "care" : "good"}>{text("now-free", { free: format.bytes(disk.free), size: format.bytes(disk.size) })}</Dot>],
      ]}
    />
  );
}
