// A button that opens a list of things to do.
import { Menu as Primitive, MenuItem, MenuTrigger, Popover } from "react-aria-components";
import type { ReactNode } from "react";
import { Button } from "./Button";
import css from "./Field.module.css";

interface Props {
  label: string;
  icon?: ReactNode;
  children?: ReactNode;
  items: readonly ({ id: string; name: string; do: () => void; isDisabled?: boolean } | false)[];
}

export function Menu({ label, icon, children, items }: Props) {
  const shown = items.filter((item) => item !== false);
  return (
    <MenuTrigger>
      <Button weight="quiet" icon={icon} label={children ? undefined : label}>{children}</Button>
      <Popover className={css.popover!} offset={4} placement="bottom end">
        <Primitive className={css.list!} aria-label={label} disabledKeys={shown.filter((item) => item.isDisabled).map((item) => item.id)}>
          {shown.map((item) => <MenuItem key={item.id} id={item.id} className={css.item!} onAction={item.do}>{item.name}</MenuItem>)}
        </Primitive>
      </Popover>
    </MenuTrigger>
  );
}
