// One's own account: who one is, the language, the ways to sign in, and where one is signed in.
import { useMutation } from "@tanstack/react-query";
import { useSession } from "../../app/session";
import { LANGUAGES, useText, type Language } from "../../i18n/words";
import { Choose } from "../../parts/Field";
import { Facts, Panel } from "../../parts/Page";
import { Asked, Fault } from "../../parts/State";
import { Moment } from "../../parts/Time";
import { Codes } from "./own/Codes";
import { useFactors } from "./own/factors";
import { Passkeys } from "./own/Passkeys";
import { Password } from "./own/Password";
import { Sessions } from "./own/Sessions";
import { useWay } from "./own/way";
import css from "./own/own.module.css";

export function Own() {
  const text = useText();
  const way = useWay();
  const { who } = useSession();
  const factors = useFactors();
  return (
    <div className="stack wide">
      <div className="grid two">
        <Panel title={text("settings-me")}>
          <Facts
            items={[
              [text("name"), who.name],
              [text("settings-role"), text(`role-${who.role}`)],
              [text("settings-tenant"), who.tenant === "*" ? text("settings-all-tenants") : who.tenant],
              [text("settings-way"), way(who.way)],
              [text("settings-session-ends"), <Moment time={who.expires} />],
            ]}
          />
        </Panel>
        <Tongue />
      </div>
      <Asked query={factors}>
        {(factors) =>
          factors.provider ? (
            <Panel title={text("settings-at-provider", { provider: factors.provider })}><p>{text("settings-at-provider-about")}</p></Panel>
          ) : (
            <>
              <Password factors={factors} />
              <Codes factors={factors} />
              <Passkeys factors={factors} />
            </>
          )
        }
      </Asked>
      <Sessions />
    </div>
  );
}

/** The language that one has wherever one signs in. */
function Tongue() {
  const text = useText();
  const { who, prefer } = useSession();
  const set = useMutation({ mutationFn: (language: Language | undefined) => prefer(language) });
  const choices = [
    { id: "browser" as const, name: text("settings-language-browser") },
    ...(Object.keys(LANGUAGES) as Language[]).map((id) => ({ id, name: LANGUAGES[id] })),
  ];
  const chosen = choices.find((choice) => choice.id === who.language)?.id ?? "browser";
  return (
    <Panel title={text("settings-language")} about={text("settings-language-about")}>
      <div className={css.form}>
        <Choose bare label={text("settings-language")} choices={choices} value={chosen} onChange={(id) => set.mutate(id === "browser" ? undefined : id)} />
        {set.error ? <Fault error={set.error} /> : null}
      </div>
    </Panel>
  );
}
