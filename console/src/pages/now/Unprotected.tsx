// Hosts, and of each that lacks something what it lacks.
import { Link } from "react-router";
import type { Schemas } from "../../api/client";
import { ENROL, toServer } from "../../app/links";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Figure } from "../../parts/Page";
import css from "./Now.module.css";

export function Unprotected({ hosts }: { hosts: Schemas["Hosts"] }) {
  const text = useText();
  const format = useFormat();
  if (hosts.total === 0) return <p className="soft">{text("now-empty-about")} <Link to={ENROL}>{text("now-enrol")}</Link></p>;
  return (
    <div className="stack">
      <div className={css.layers}>
        <Figure value={format.number(hosts.connected)} name={text("now-connected")} note={text("now-of", { total: hosts.total })} />
        <Figure value={format.number(hosts.unprotected)} name={text("now-lacking")} tone={hosts.unprotected ? "person" : undefined} />
      </div>
      {hosts.total === 1 && <p className="soft">{text("now-only-one")} <Link to={ENROL}>{text("now-enrol")}</Link></p>}
      {hosts.items.length > 0 && (
        <ul className={css.list}>
          {hosts.items.map((host) => (
            <li key={host.agent}>
              <Link to={toServer(host.agent)}>{host.host}</Link>
              <span className="soft">{text(`agent-${host.state}`)}</span>
              <span className="soft small">
                {host.why.map((lack) => [text(`module-${lack.module}`), text(`now-lack-${lack.state}`), lack.detail].filter(Boolean).join(": ")).join(" · ")}
              </span>
            </li>
          ))}
        </ul>
      )}
    </div>
  );
}
