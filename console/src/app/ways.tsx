// The ways to sign in beside a password: a passkey, a provider of single sign-on. And what a provider's answer left in the address.
import { useMutation } from "@tanstack/react-query";
import { KeyRound, LogIn } from "lucide-react";
import { api, ask, Problem, type Schemas } from "../api/client";
import { useText, type Text } from "../i18n/words";
import { Button, ButtonLink } from "../parts/Button";
import { isNumber, isOwnNumber, told, use } from "./webauthn";
import css from "./SignIn.module.css";

/** Where the manager sends browsers whose single sign-on did not come about. */
export const SIGN_IN = "/sign-in";
const KNOWN = ["auth/sso", "auth/account", "auth/provider", "auth/provider-away"];

/** What the address says of a sign-in that failed. It may come from anywhere: only what is known is shown. */
export function returned(search: string, text: Text): Problem | undefined {
  const code = new URLSearchParams(search).get("problem");
  if (!code) return undefined;
  const known = KNOWN.includes(code) ? code : "auth/sso";
  const id = known.replace("/", "-");
  return new Problem(403, known, text(`sign-in-problem-${id}`), text(`sign-in-problem-${id}-about`));
}

/** The page that was asked for, as a provider's answer shall lead to it. */
function here(): string {
  const { pathname, search, hash } = location;
  return pathname === SIGN_IN ? "/" : pathname + search + hash;
}

interface PasskeyProps {
  onDone: () => Promise<unknown>;
  onFault: (fault: unknown) => void;
  isDisabled: boolean;
}

export function PasskeyWay({ onDone, onFault, isDisabled }: PasskeyProps) {
  const text = useText();
  const enter = useMutation({
    mutationFn: async () => {
      const { ticket, public_key } = await ask(api.POST("/api/v1/sign-in/passkey/options"));
      await ask(api.POST("/api/v1/sign-in/passkey", { body: { ticket, credential: await use(public_key) } }));
      await onDone();
    },
    onMutate: () => onFault(undefined),
    onError: (error) => onFault(told(error, text)),
  });
  if (isNumber(location.hostname) || !window.PublicKeyCredential) return <PasskeyElsewhere />;
  return <Button icon={<KeyRound />} isPending={enter.isPending} isDisabled={isDisabled} onPress={() => enter.mutate()}>{text("sign-in-passkey")}</Button>;
}

/** Why there are no passkeys at this address, and at which there are. */
export function PasskeyElsewhere() {
  const text = useText();
  const { hostname, port, protocol, pathname, search, host } = location;
  if (!isNumber(hostname)) return <p className="soft small">{text("passkey-no-browser")}</p>;
  if (!isOwnNumber(hostname)) return <p className="soft small">{text("passkey-number", { host })}</p>;
  const named = `${protocol}//localhost${port && `:${port}`}`;
  return (
    <p className="soft small">
      {text("passkey-loopback", { host: hostname })} <a href={named + (pathname === SIGN_IN ? "/" : pathname + search)}>{named}</a>
    </p>
  );
}

export function ProviderWays({ providers }: { providers: Schemas["SignInProvider"][] }) {
  const text = useText();
  return (
    <ul className={css.ways} aria-label={text("sign-in-sso")}>
      {providers.map((provider) => (
        <li key={provider.id}>
          <ButtonLink icon={<LogIn />} href={`${provider.url}?return_to=${encodeURIComponent(here())}`}>{text("sign-in-at", { provider: provider.title })}</ButtonLink>
        </li>
      ))}
    </ul>
  );
}
