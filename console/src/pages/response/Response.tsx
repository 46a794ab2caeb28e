// Response: what waits for a person, what is in effect, everything that was done, the playbooks behind it, and what is never
// blocked. The tab, the filters and the open action are in the address.
import type { ReactNode } from "react";
import { useSearchParams } from "react-router";
import { useSession } from "../../app/session";
import { useText } from "../../i18n/words";
import { Page } from "../../parts/Page";
import { Tabs } from "../../parts/Tabs";
import { ActionDrawer } from "./ActionDrawer";
import { Allow } from "./Allow";
import { useInEffect } from "./asked";
import { Executions } from "./Executions";
import { HaltButton, HaltedPanel } from "./Halt";
import { InEffect } from "./InEffect";
import { Ledger } from "./Ledger";
import type { Action } from "./model";
import { Playbooks } from "./Playbooks";
import { Waiting, useWaiting } from "./Waiting";
import css from "./Response.module.css";

export default function Response() {
  const text = useText();
  const { can } = useSession();
  const [search, setSearch] = useSearchParams();
  const { count } = useWaiting();
  const { data: inEffect } = useInEffect();
  const open = search.get("open") ?? undefined;
  const show = (id: string | undefined) => setSearch((search) => {
    if (id) search.set("open", id);
    else search.delete("open");
    return search;
  }, { replace: true });
  const openAction = (action: Action) => show(action.order.id);
  const counted = (name: string, count: number | undefined, tone?: "person"): ReactNode => (
    <>{text(name)}{count ? <span className={css.count} data-tone={tone}>{count}</span> : null}</>
  );
  const tabs = [
    { id: "waiting", title: counted("response-tab-waiting", count, "person"), content: () => <Waiting /> },
    { id: "effect", title: counted("response-tab-effect", inEffect?.items.length), content: () => <InEffect onOpen={openAction} /> },
    { id: "ledger", title: text("response-tab-ledger"), content: () => <Ledger open={open} onOpen={openAction} /> },
    can("executions:read") && { id: "executions", title: text("response-tab-executions"), content: () => <Executions /> },
    can("playbooks:read") && { id: "playbooks", title: text("response-tab-playbooks"), content: () => <Playbooks /> },
    can("policies:read") && { id: "allow", title: text("response-tab-allow"), content: () => <Allow /> },
  ].filter((tab) => tab !== false);
  return (
    <Page title={text("page-response")} about={text("response-about")} actions={<HaltButton />}>
      <HaltedPanel />
      <Tabs label={text("page-response")} tabs={tabs} />
      <ActionDrawer id={open} onClose={() => show(undefined)} />
    </Page>
  );
}
