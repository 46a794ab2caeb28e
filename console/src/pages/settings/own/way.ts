// How a session was opened, in words.
import { useText } from "../../../i18n/words";

const SSO = "sso:";

export function useWay() {
  const text = useText();
  return (way: string | null | undefined) => {
    if (!way) return "—";
    if (way.startsWith(SSO)) return text("settings-way-sso", { provider: way.slice(SSO.length) });
    return way === "password" || way === "passkey" ? text(`settings-way-${way}`) : way;
  };
}
