// Changes of one list of the tenant's policy layer. A layer is written whole: it is read, one list changes, and it is written
// over exactly what was read, so that nobody's change in between is lost.
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { api, ask, type Schemas } from "../../api/client";
import { readLayers } from "../../app/installation";

/** Lists of `response` in a policy. */
export type List = "allow" | "trusted_proxies" | "playbooks_on" | "playbooks_off";
type Tree = Record<string, unknown>;

const TENANT = "tenant";

/** A list as a layer writes it: whole, or what it adds to and takes from the layers below. */
function edited(below: string[], written: unknown): string[] {
  if (Array.isArray(written)) return written.map(String);
  if (!written || typeof written !== "object") return below;
  const { add, remove } = written as { add?: unknown[]; remove?: unknown[] };
  const kept = below.filter((one) => !(remove ?? []).includes(one));
  return [...kept, ...(add ?? []).map(String).filter((one) => !kept.includes(one))];
}

const part = (tree: unknown, list: List) => ((tree as Tree | undefined)?.response as Tree | undefined)?.[list];
const tenantOf = (layers: Schemas["Layers"]) => layers.layers.find((layer) => layer.layer === TENANT);

/** The list in effect for the tenant; groups and hosts may say otherwise. */
export function listOf(layers: Schemas["Layers"], list: List): string[] {
  return edited(edited([], part(layers.default, list)), part(tenantOf(layers)?.tree, list));
}

/** Do other layers, of groups or hosts, say something of this list? */
export const othersOf = (layers: Schemas["Layers"], list: List) =>
  layers.layers.filter((layer) => layer.layer !== TENANT && part(layer.tree, list) !== undefined).map((layer) => layer.layer);

export interface Change { list: List; add?: string[]; remove?: string[] }
/** Changes, and why they are made. */
export interface Changes { changes: Change[]; reason: string }

/** Writes changes of lists, all in one version of the layer. */
export function useChange() {
  const queries = useQueryClient();
  return useMutation({
    mutationFn: async ({ changes, reason }: Changes) => {
      const layers = await readLayers();
      const tenant = tenantOf(layers);
      const tree = structuredClone(tenant?.tree ?? {}) as Tree;
      const response = { ...((tree.response as Tree | undefined) ?? {}) };
      for (const { list, add = [], remove = [] } of changes) {
        const before = listOf(layers, list);
        const kept = before.filter((one) => !remove.includes(one));
        const after = [...kept, ...add.filter((one) => !kept.includes(one))];
        // What does not change is not written, so that the layer says no more than somebody wanted.
        if (after.join("\n") !== before.join("\n")) response[list] = after;
      }
      tree.response = response;
      return ask(api.PUT("/api/v1/policies/layers/{layer}", { params: { path: { layer: TENANT } }, body: { tree: tree as never, over: tenant?.number ?? 0, reason: reason.trim() } }));
    },
    onSettled: () => Promise.all([
      queries.invalidateQueries({ queryKey: ["policies"] }),
      queries.invalidateQueries({ queryKey: ["playbooks"] }),
    ]),
  });
}
