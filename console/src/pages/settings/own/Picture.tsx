// A QR code, drawn as one path of an inline picture: nothing is fetched and nothing styled from a string. It is dark on light in
// either theme, since cameras expect that.
import { encode } from "uqr";
import css from "./own.module.css";

const QUIET = 4;

export function Picture({ value, label }: { value: string; label: string }) {
  const { data, size } = encode(value, { ecc: "M", border: 0 });
  const path = data.flatMap((row, y) => row.map((dark, x) => (dark ? `M${x + QUIET} ${y + QUIET}h1v1h-1z` : ""))).join("");
  const whole = size + 2 * QUIET;
  return (
    <svg className={css.picture} viewBox={`0 0 ${whole} ${whole}`} role="img" aria-label={label} shapeRendering="crispEdges">
      <rect width={whole} height={whole} className={css.light} />
      <path d={path} className={css.dark} />
    </svg>
  );
}
