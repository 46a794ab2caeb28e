// The three roles, with what each may do.
import { useText } from "../../i18n/words";

export const ROLES = ["viewer", "operator", "admin"] as const;
export type Role = (typeof ROLES)[number];

export function useRoles() {
  const text = useText();
  return ROLES.map((id) => ({ id, name: text(`role-${id}`), about: text(`role-${id}-about`) }));
}
