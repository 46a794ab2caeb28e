// Where one is signed in, and signing out there or everywhere.
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { LogOut } from "lucide-react";
import { useState } from "react";
import { api, ask, type Schemas } from "../../../api/client";
import { signedOut } from "../../../app/session";
import { useText } from "../../../i18n/words";
import { Button } from "../../../parts/Button";
import { Confirm } from "../../../parts/Dialog";
import { Panel } from "../../../parts/Page";
import { Asked, Badge } from "../../../parts/State";
import { Table } from "../../../parts/Table";
import { Ago, Moment } from "../../../parts/Time";
import { useWay } from "./way";
import css from "./own.module.css";

type Session = Schemas["Session"];

export function Sessions() {
  const text = useText();
  const way = useWay();
  const queries = useQueryClient();
  const [going, setGoing] = useState<Session | "all">();
  const sessions = useQuery({ queryKey: ["sessions"], queryFn: () => ask(api.GET("/api/v1/sessions")), refetchInterval: 30_000 });
  const one = going === "all" ? undefined : going;
  const end = async () => {
    if (one) {
      await ask(api.DELETE("/api/v1/sessions/{id}", { params: { path: { id: one.id } } }));
      return queries.invalidateQueries({ queryKey: ["sessions"] });
    }
    await ask(api.DELETE("/api/v1/sessions"));
    signedOut(queries);
  };
  return (
    <Panel flush title={text("settings-sessions")} about={text("settings-sessions-about")} actions={<Button icon={<LogOut />} onPress={() => setGoing("all")}>{text("settings-sign-out-everywhere")}</Button>}>
      <Asked query={sessions}>
        {({ sessions }) => (
          <Table
            label={text("settings-sessions")} rows={sessions} keyOf={(session) => session.id}
            columns={[
              { id: "agent", title: text("settings-session-with"), width: "minmax(10rem, 3fr)", cell: (session: Session) => <span className={`row ${css.agent}`}>{session.current && <Badge tone="lead">{text("settings-session-here")}</Badge>}<span className="small">{session.agent || text(session.browser ? "settings-session-browser" : "settings-session-program")}</span></span> },
              { id: "address", title: text("settings-from-where"), width: "minmax(7rem, 1fr)", cell: (session: Session) => <span className="mono">{session.address || "—"}</span> },
              { id: "way", title: text("settings-way"), width: "minmax(7rem, 1fr)", cell: (session: Session) => way(session.way) },
              { id: "seen", title: text("settings-session-seen"), width: "7rem", cell: (session: Session) => <Ago time={session.seen} /> },
              { id: "ends", title: text("settings-ends"), width: "9rem", cell: (session: Session) => <Moment time={session.expires} /> },
              { id: "end", title: "", width: "3rem", cell: (session: Session) => !session.current && <Button weight="quiet" icon={<LogOut />} label={text("settings-sign-out-there", { address: session.address })} onPress={() => setGoing(session)} /> },
            ]}
          />
        )}
      </Asked>
      <Confirm
        title={one ? text("settings-sign-out-there", { address: one.address }) : text("settings-sign-out-everywhere")}
        action={text("sign-out")} danger open={Boolean(going)} onClose={() => setGoing(undefined)} onConfirm={end}
      >
        <p>{one ? text("settings-sign-out-there-about") : text("settings-sign-out-everywhere-about")}</p>
      </Confirm>
    </Panel>
  );
}
