// The texts that a playbook had, the newest first. Executions keep the one that they began with.
import { useQuery } from "@tanstack/react-query";
import { useSearchParams } from "react-router";
import { api, ask } from "../../api/client";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Code } from "../../parts/Code";
import { Choose } from "../../parts/Field";
import { Panel } from "../../parts/Page";
import { Asked } from "../../parts/State";

export function Revisions({ id, current }: { id: string; current: string }) {
  const text = useText();
  const format = useFormat();
  const [search, setSearch] = useSearchParams();
  const query = useQuery({ queryKey: ["playbooks", id, "revisions"], queryFn: () => ask(api.GET("/api/v1/playbooks/{id}/revisions", { params: { path: { id } } })) });
  return (
    <Panel title={text("response-tab-revisions")} about={text("response-revisions-about")}>
      <Asked query={query}>
        {({ items }) => {
          const shown = items.find((one) => one.revision === search.get("revision")) ?? items[0];
          if (!shown) return <p className="soft">{text("response-revisions-none")}</p>;
          const choose = (revision: string) => setSearch((search) => {
            search.set("revision", revision);
            return search;
          }, { replace: true });
          return (
            <div className="stack">
              <Choose
                label={text("response-revision")} value={shown.revision} onChange={choose}
                choices={items.map((one) => ({ id: one.revision, name: text(one.revision === current ? "response-revision-current" : "response-revision-since", { time: format.short(one.since) }), about: one.revision }))}
              />
              <Code value={shown.text} language="yaml" label={text("response-text")} readOnly maxHeight="60vh" />
            </div>
          );
        }}
      </Asked>
    </Panel>
  );
}
