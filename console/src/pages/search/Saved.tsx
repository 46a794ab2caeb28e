// Searches that somebody kept, for oneself or for all of the tenant.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Bookmark, Trash2 } from "lucide-react";
import { useState } from "react";
import { api, ask } from "../../api/client";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Dialog } from "../../parts/Dialog";
import { Field, Tick } from "../../parts/Field";
import { useNotice } from "../../parts/Notice";
import { Asked, Badge, Fault } from "../../parts/State";
import type { Asked as Address } from "./address";

export function Saved({ asked, onOpen }: { asked: Address; onOpen: (saved: Partial<Address>) => void }) {
  const text = useText();
  const { can } = useSession();
  const say = useNotice();
  const queries = useQueryClient();
  const [open, setOpen] = useState(false);
  const [name, setName] = useState("");
  const [shared, setShared] = useState(false);
  const [error, setError] = useState<unknown>();
  const list = useQuery({ queryKey: ["searches"], queryFn: () => ask(api.GET("/api/v1/searches")), enabled: open });

  const attempt = async (deed: () => Promise<unknown>, done: string) => {
    try {
      setError(undefined);
      await deed();
      say(done);
      await queries.invalidateQueries({ queryKey: ["searches"] });
    } catch (error) {
      setError(error);
    }
  };
  const save = () =>
    attempt(async () => {
      const kind = asked.in === "alerts" ? "event.kind:alert" : "";
      const q = kind && asked.q ? `${kind} and (${asked.q})` : kind || asked.q;
      await ask(api.POST("/api/v1/searches", { body: { name, q, from: asked.from, to: asked.to, fields: asked.columns, shared } }));
      setName("");
    }, text("search-saved"));
  const show = (saved: { q: string; from: string; to: string; fields: string[]; language: string }) => {
    const alerts = /^event\.kind:alert(?: and \((.*)\))?$/s.exec(saved.q);
    onOpen({ in: saved.language === "sql" ? "sql" : alerts ? "alerts" : "events", q: alerts ? alerts[1] ?? "" : saved.q, from: saved.from, to: saved.to, columns: saved.fields });
    setOpen(false);
  };

  return (
    <>
      <Button icon={<Bookmark />} onPress={() => setOpen(true)}>{text("search-saved-ones")}</Button>
      <Dialog title={text("search-saved-ones")} open={open} onClose={() => setOpen(false)}>
        <div className="stack">
          <Asked query={list}>
            {({ items }) =>
              items.length === 0 ? <p className="soft">{text("search-none-saved")}</p> : (
                <ul className="stack tight">
                  {items.map((saved) => (
                    <li key={saved.id} className="row apart">
                      <span className="row">
                        <Button weight="quiet" onPress={() => show(saved)}>{saved.name}</Button>
                        {saved.shared && <Badge>{text("search-shared")}</Badge>}
                      </span>
                      {saved.mine && <Button weight="quiet" icon={<Trash2 />} label={text("search-forget", { name: saved.name })} onPress={() => void attempt(() => ask(api.DELETE("/api/v1/searches/{id}", { params: { path: { id: saved.id } } })), text("search-forgotten"))} />}
                    </li>
                  ))}
                </ul>
              )
            }
          </Asked>
          {can("searches:write") && (
            <>
              <Field label={text("search-save-as")} value={name} onChange={setName} maxLength={120} />
              <Tick value={shared} onChange={setShared}>{text("search-share")}</Tick>
              <Button isDisabled={!name.trim()} onPress={() => void save()}>{text("search-save")}</Button>
            </>
          )}
          {error !== undefined && <Fault error={error} />}
        </div>
      </Dialog>
    </>
  );
}
