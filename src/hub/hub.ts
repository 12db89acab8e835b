// What the hub offers to users of the library, re-exports only.
export { formatHubId, type HubId, parseHubId } from "./hub-id.ts";
export { resolveDataset, resolveModel } from "./resolve.ts";
export type { DownloadProgress, HubOptions } from "./snapshot.ts";
