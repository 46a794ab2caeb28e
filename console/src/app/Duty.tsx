// For somebody whose password alone is not enough here: sets up a second factor, and nothing else until that is done.
import { LogOut, ShieldCheck } from "lucide-react";
import { useEffect } from "react";
import { useText } from "../i18n/words";
import { Codes } from "../pages/settings/own/Codes";
import { useFactors } from "../pages/settings/own/factors";
import { Passkeys } from "../pages/settings/own/Passkeys";
import { Button } from "../parts/Button";
import { Panel } from "../parts/Page";
import { Asked, Empty } from "../parts/State";
import { useSession } from "./session";
import css from "./SignIn.module.css";

export default function Duty() {
  const text = useText();
  const { who, leave } = useSession();
  const factors = useFactors();
  const title = text("duty");
  useEffect(() => {
    document.title = `${title} · ${text("sakimori")}`;
  }, [title, text]);
  return (
    <main className={css.duty}>
      <header className={css.top}>
        <div className="grow">
          <h1>{title}</h1>
          <p className="soft">{text("duty-about", { name: who.name })}</p>
        </div>
        <Button weight="quiet" icon={<LogOut />} onPress={() => void leave()}>{text("sign-out")}</Button>
      </header>
      <Asked query={factors}>
        {(factors) =>
          // Whoever has a passkey signs in with it: a password alone sets up nothing beside it.
          factors.passkeys.length > 0 && !factors.totp ? (
            <Panel>
              <Empty icon={<ShieldCheck />} title={text("duty-passkey")} action={<Button weight="primary" onPress={() => void leave()}>{text("sign-out")}</Button>}>{text("duty-passkey-about")}</Empty>
            </Panel>
          ) : (
            <>
              <Codes factors={factors} />
              {factors.passkeys_possible && <Passkeys factors={factors} />}
            </>
          )
        }
      </Asked>
    </main>
  );
}
