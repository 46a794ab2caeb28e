// Which fields the table shows.
import { useQuery } from "@tanstack/react-query";
import { Columns3 } from "lucide-react";
import { useState } from "react";
import { api, ask } from "../../api/client";
import { useText, useWords } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Dialog } from "../../parts/Dialog";
import { Field, Tick } from "../../parts/Field";
import { Asked } from "../../parts/State";
import css from "./Search.module.css";

const MOST = 12;

export function Columns({ chosen, onChange }: { chosen: string[]; onChange: (columns: string[]) => void }) {
  const text = useText();
  const { language } = useWords();
  const [open, setOpen] = useState(false);
  const [part, setPart] = useState("");
  const fields = useQuery({ queryKey: ["fields"], queryFn: () => ask(api.GET("/api/v1/fields")), staleTime: Infinity, enabled: open });
  return (
    <>
      <Button weight="quiet" icon={<Columns3 />} label={text("search-columns")} onPress={() => setOpen(true)} />
      <Dialog title={text("search-columns")} open={open} onClose={() => setOpen(false)}>
        <div className="stack">
          <Field label={text("search-columns-find")} value={part} onChange={setPart} autoFocus />
          <Asked query={fields}>
            {({ items }) => (
              <div className={css.columns}>
                {[...items].sort((a, b) => Number(chosen.includes(b.name)) - Number(chosen.includes(a.name)))
                  .filter((field) => field.name.includes(part.toLowerCase().trim()))
                  .map((field) => (
                    <Tick
                      key={field.name} value={chosen.includes(field.name)} isDisabled={!chosen.includes(field.name) && chosen.length >= MOST}
                      onChange={(on) => onChange(on ? [...chosen, field.name] : chosen.filter((name) => name !== field.name))}
                    >
                      <span><span className="mono">{field.name}</span> <span className="soft small">{field.description[language]}</span></span>
                    </Tick>
                  ))}
              </div>
            )}
          </Asked>
        </div>
      </Dialog>
    </>
  );
}
