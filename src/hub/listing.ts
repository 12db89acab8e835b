import { HubError } from "../errors.ts";
import type { HubFile } from "./cache.ts";
import { type HubRequests, type RequestSubject, UnreachableError } from "./requests.ts";

/** The commit that a revision is now. @throws as `HubRequests.fetch` */
export async function lookUpCommit(requests: HubRequests, subject: RequestSubject): Promise<string> {
  const { datasetInfo, modelInfo } = await import("@huggingface/hub");
  const request = { name: subject.repo, revision: subject.revision, ...clientOptions(requests, subject) };
  const { sha } = await (subject.kind === "dataset" ? datasetInfo({ ...request, additionalFields: ["sha"] })
    : modelInfo({ ...request, additionalFields: ["sha"] }));
  if (/^[0-9a-f]{40}$/.test(sha)) return sha;
  throw new HubError(`${subject.repo}: ${requests.environment.endpoint} names no commit`);
}

/** All files of a commit. @throws as `HubRequests.fetch`, and for a name that would lie outside of the repository */
export async function listFiles(requests: HubRequests, subject: RequestSubject): Promise<HubFile[]> {
  const client = await import("@huggingface/hub");
  const files: HubFile[] = [];
  const { kind, repo, revision } = subject;
  const request = { repo: { type: kind, name: repo }, revision, recursive: true, ...clientOptions(requests, subject) };
  for await (const entry of client.listFiles(request)) {
    if (entry.type !== "file") continue;
    if (entry.path.startsWith("/") || entry.path.split("/").some((part) => part === "" || part === "." || part === "..")) {
      throw new HubError(`${repo}: the hub lists a file outside of the repository: ${entry.path}`);
    }
    const [blobId, sha256] = [entry.oid ?? "", entry.lfs?.oid];
    if (!/^[0-9a-f]{40}$/.test(blobId) || (sha256 !== undefined && !/^[0-9a-f]{64}$/.test(sha256))) {
      throw new HubError(`${repo}: the hub lists ${entry.path} without its hash`);
    }
    files.push({ path: entry.path, size: entry.lfs?.size ?? entry.size, blobId, sha256, xetHash: entry.xetHash });
  }
  return files;
}

/** The client makes its requests through ours, which adds the token, tries again and explains. */
function clientOptions(requests: HubRequests, subject: RequestSubject): { hubUrl: string; fetch: typeof fetch } {
  const { endpoint } = requests.environment;
  return {
    hubUrl: endpoint,
    fetch: async (url) => {
      const response = await requests.fetch(String(url), subject);
      if (response.headers.get("content-type")?.includes("json")) return response;
      await response.body?.cancel();
      throw new UnreachableError(`${endpoint} answers as no hub does (a page to log in to the network, or a wrong HF_ENDPOINT?)`);
    },
  };
}
