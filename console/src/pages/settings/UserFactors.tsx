// How a user may sign in, and what helps somebody who lost a device: resetting codes or passkeys, signing out everywhere.
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { api, ask, type Schemas } from "../../api/client";
import { useFormat } from "../../i18n/format";
import { useText } from "../../i18n/words";
import { Button } from "../../parts/Button";
import { Confirm } from "../../parts/Dialog";
import { useNotice } from "../../parts/Notice";
import { Facts } from "../../parts/Page";

const RESETS = {
  codes: { title: "settings-codes-reset", about: "settings-codes-reset-about", path: "/api/v1/users/{id}/totp" },
  passkeys: { title: "settings-passkeys-reset", about: "settings-passkeys-reset-about", path: "/api/v1/users/{id}/passkeys" },
  sessions: { title: "settings-sign-out-everywhere", about: "settings-factors-sign-out-about", path: "/api/v1/users/{id}/sessions" },
} as const;
type Reset = keyof typeof RESETS;

export function UserFactors({ user, factors }: { user: Schemas["User"]; factors: Schemas["Factors"] }) {
  const text = useText();
  const format = useFormat();
  const say = useNotice();
  const queries = useQueryClient();
  const [going, setGoing] = useState<Reset>();
  // While it closes, the words stay.
  const reset = RESETS[going ?? "sessions"];
  const { name, id } = user;
  const offer = (which: Reset, may: boolean) => may && <Button onPress={() => setGoing(which)}>{text(RESETS[which].title)}</Button>;
  return (
    <section className="stack" aria-label={text("settings-factors")}>
      <h3>{text("settings-factors")}</h3>
      {factors.provider ? (
        <p>{text("settings-factors-provider", { provider: factors.provider })}</p>
      ) : (
        <Facts
          items={[
            [text("settings-factors-codes"), text(factors.totp ? "settings-factors-set" : "settings-factors-not-set")],
            factors.totp && [text("settings-recovery"), format.number(factors.recovery_codes)],
            [text("settings-passkeys"), factors.passkeys.map((passkey) => passkey.name).join(", ") || "—"],
          ]}
        />
      )}
      {factors.required && <p className="soft small">{text("settings-factors-required")}</p>}
      <span className="row">
        {offer("codes", factors.totp)}
        {offer("passkeys", factors.passkeys.length > 0)}
        {offer("sessions", true)}
      </span>
      <Confirm
        title={text(reset.title)} action={text(reset.title)} danger open={Boolean(going)} onClose={() => setGoing(undefined)}
        onConfirm={async () => {
          await ask(api.DELETE(reset.path, { params: { path: { id } } }));
          say(text("settings-factors-done", { name }));
          await queries.invalidateQueries({ queryKey: ["users"] });
        }}
      >
        <p>{text(reset.about, { name })}</p>
      </Confirm>
    </section>
  );
}
