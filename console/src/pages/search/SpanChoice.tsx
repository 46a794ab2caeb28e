// Which time is searched: one of the usual spans, or exact moments.
import { CalendarClock } from "lucide-react";
import { useState } from "react";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Dialog } from "../../parts/Dialog";
import { Choose, Field } from "../../parts/Field";
import { length, PRESETS, type Span } from "./span";

/** As an input of the browser wants a moment: without a zone, in the reader's own. */
function local(text: string): string {
  const ago = length(text);
  const time = ago !== undefined ? new Date(Date.now() - ago) : text ? new Date(text) : new Date();
  return new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export function SpanChoice({ from, to, onChange }: Span & { onChange: (span: Span) => void }) {
  const text = useText();
  const format = useFormat();
  const [exact, setExact] = useState<Span>();
  const usual = PRESETS.find((preset) => preset === from && !to);
  const name = (preset: string) => text("search-last", { span: format.span(length(preset)!) });
  const choices = [
    ...(usual ? [] : [{ id: "own", name: `${length(from) === undefined ? format.short(from) : name(from)} – ${to ? format.short(to) : text("search-now")}` }]),
    ...PRESETS.map((id) => ({ id: id as string, name: name(id) })),
    { id: "exact", name: text("search-exact") },
  ];
  return (
    <>
      <Choose
        bare label={text("search-span")} choices={choices} value={usual ?? "own"}
        onChange={(id) => (id === "exact" ? setExact({ from: local(from), to: local(to) }) : id !== "own" && onChange({ from: id, to: "" }))}
      />
      <Dialog
        title={text("search-exact")} open={Boolean(exact)} onClose={() => setExact(undefined)}
        foot={
          <Button
            weight="primary" icon={<CalendarClock />} isDisabled={!exact?.from || !exact.to || exact.from >= exact.to}
            onPress={() => {
              if (exact) onChange({ from: new Date(exact.from).toISOString(), to: new Date(exact.to).toISOString() });
              setExact(undefined);
            }}
          >
            {text("search-use-span")}
          </Button>
        }
      >
        <div className="stack">
          <Field label={text("search-from")} type="datetime-local" value={exact?.from ?? ""} onChange={(from) => setExact({ from, to: exact?.to ?? "" })} />
          <Field label={text("search-to")} type="datetime-local" value={exact?.to ?? ""} onChange={(to) => setExact({ from: exact?.from ?? "", to })} />
        </div>
      </Dialog>
    </>
  );
}
