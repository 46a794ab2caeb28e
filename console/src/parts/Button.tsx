// A button, in its four weights. Only one on a page should be `primary`; `danger` is for what harms and cannot be undone.
import { Button as Primitive, type ButtonProps } from "react-aria-components";
import type { ReactNode } from "react";
import css from "./Button.module.css";

interface Props extends Omit<ButtonProps, "className" | "children"> {
  weight?: "primary" | "plain" | "quiet" | "danger";
  /** An icon before the words; with `label` alone the button is only the icon. */
  icon?: ReactNode;
  label?: string;
  children?: ReactNode;
}

export function Button({ weight = "plain", icon, label, children, ...props }: Props) {
  return (
    <Primitive {...props} aria-label={label} className={`${css.button} ${css[weight]} ${children ? "" : css.square}`}>
      {props.isPending ? <span className={css.spin} aria-hidden /> : icon}
      {children}
    </Primitive>
  );
}

interface LinkProps {
  href: string;
  icon?: ReactNode;
  children: ReactNode;
}

/** A link that leaves the console and looks like a button. */
export function ButtonLink({ href, icon, children }: LinkProps) {
  return <a href={href} className={`${css.button} ${css.link}`}>{icon}{children}</a>;
}
