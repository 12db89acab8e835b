import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { fetchFromHub, resolveModel } from "../../src/hub/resolve.ts";
import { rejection } from "../failure.ts";
import { type Fault, gitHash, mainCommit, sendContent, sha256 } from "./local-hub.ts";
import { type HubSetup, setUpHub, someBytes } from "./setup.ts";

const weights = someBytes(500_000);
const model = { name: "org/tiny", files: { "config.json": '{"a": 1}', "model.safetensors": weights }, large: ["model.safetensors"] };
const url = `/org/tiny/resolve/${mainCommit}/model.safetensors`;
const blob = (cache: string): string => join(cache, "models--org--tiny", "blobs", sha256(weights));

/** A fault for the content of the weights, `times` times. */
function weightsFault(times: number, act: (...args: Parameters<Fault>) => void): Fault {
  let left = times;
  return (request, response, content) => {
    if (request.host !== "storage" || left-- <= 0) return false;
    act(request, response, content);
    return true;
  };
}

/** Sends `count` bytes of what was asked for and cuts the connection. */
const cutAfter = (count: number): Parameters<typeof weightsFault>[1] => (request, response, content) => {
  const start = Number(/=(\d+)-/.exec(request.range ?? "")?.[1] ?? 0);
  const range = start > 0 ? { "content-range": `bytes ${start}-${content.length - 1}/${content.length}` } : {};
  response.writeHead(start > 0 ? 206 : 200, { "content-length": content.length - start, ...range });
  response.write(content.subarray(start, start + count), () => response.destroy());
};

/** The message of the error that the download ends with. */
async function failureOf({ options }: HubSetup): Promise<string> {
  return (await rejection(() => resolveModel("org/tiny", options()))).message;
}

async function expectWeights({ options }: HubSetup): Promise<void> {
  const folder = await resolveModel("org/tiny", options());
  expect(readFileSync(join(folder, "model.safetensors")).equals(weights)).toBe(true);
}

test("bytes arrive as they are, with progress over all files", async () => {
  const setup = await setUpHub(model);
  const seen: [number, number][] = [];
  await resolveModel("org/tiny", setup.options({ onProgress: ({ doneBytes, totalBytes }) => seen.push([doneBytes, totalBytes]) }));
  await expectWeights(setup);
  expect(seen.at(-1)).toEqual([500_008, 500_008]); // 8 bytes of config.json
  expect(seen.every(([done, total], i) => total === 500_008 && done >= (seen[i - 1]?.[0] ?? 0))).toBe(true);
  const contents = setup.hub.requests.filter(({ path }) => !path.startsWith("/api/"));
  expect(new Set(contents.map(({ encoding }) => encoding))).toEqual(new Set(["identity"])); // a range of compressed bytes is no use
  expect(setup.hub.downloads).toHaveLength(3); // config.json, the weights, and these where they are redirected to; no HEAD
});

test("the token goes to the hub, never to the host that it redirects to", async () => {
  const { hub, options } = await setUpHub({ ...model, token: "hf_secret" });
  await resolveModel("org/tiny", options({ env: { HF_TOKEN: "hf_secret" } }));
  const authorizations = (host: string): Set<string | undefined> =>
    new Set(hub.requests.filter((request) => request.host === host).map((request) => request.authorization));
  expect(authorizations("hub")).toEqual(new Set(["Bearer hf_secret"]));
  expect(authorizations("storage")).toEqual(new Set([undefined]));
});

describe("a download that breaks off", () => {
  test("goes on from there, as often as bytes arrive", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(weightsFault(8, cutAfter(50_000))); // more often than there are attempts
    await expectWeights(setup);
    const starts = setup.hub.downloads.filter((line) => line.startsWith("storage")).map((line) => Number(/=(\d+)-/.exec(line)?.[1] ?? 0));
    expect(starts).toHaveLength(9);
    expect(starts.every((start, i) => start >= (starts[i - 1] ?? 0))).toBe(true);
    expect(starts.at(-1)).toBeGreaterThan(0);
  });

  test("is kept when all attempts fail, and the next call goes on from there", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(weightsFault(1, cutAfter(200_000)), weightsFault(4, (_, response) => response.destroy()));
    expect(await rejection(() => resolveModel("org/tiny", setup.options()))).toMatchObject({ name: "HubError", code: "E_HUB" });
    const have = readFileSync(`${blob(setup.cache)}.incomplete`);
    expect(have.length).toBeGreaterThan(0);
    expect(have.equals(weights.subarray(0, have.length))).toBe(true);
    await expectWeights(setup);
    expect(setup.hub.downloads.at(-1)).toBe(`storage /${sha256(weights)} bytes=${have.length}-`);
  });

  test("ends at a signal, and is kept", async () => {
    const setup = await setUpHub(model);
    const controller = new AbortController();
    setup.hub.faults.push((request, response, content) => {
      if (request.host !== "storage") return false;
      response.writeHead(200, { "content-length": content.length }).write(content.subarray(0, 100_000)); // and then nothing
      return true;
    });
    const stopped = resolveModel("org/tiny", setup.options({
      signal: controller.signal, onProgress: ({ doneBytes }) => { if (doneBytes >= 100_000) controller.abort(new Error("stop")); },
    }));
    expect((await rejection(() => stopped)).message).toBe("stop");
    expect(readFileSync(`${blob(setup.cache)}.incomplete`).length).toBeGreaterThanOrEqual(99_000);
    setup.hub.faults.length = 0;
    await expectWeights(setup);
  });

  test("is given up when the server is silent", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(weightsFault(1, (_, response, content) => {
      response.writeHead(200, { "content-length": content.length }).write(content.subarray(0, 1000));
    }));
    const folder = await resolveModel("org/tiny", setup.options({ env: { HF_HUB_DOWNLOAD_TIMEOUT: "0.2" } }));
    expect(readFileSync(join(folder, "model.safetensors")).equals(weights)).toBe(true);
    expect(setup.hub.downloads.at(-1)).toMatch(/^storage .* bytes=1000-$/);
  });
});

describe("a part of an earlier download", () => {
  const withPart = async (part: Buffer): Promise<HubSetup> => {
    const setup = await setUpHub(model);
    mkdirSync(dirname(blob(setup.cache)), { recursive: true });
    writeFileSync(`${blob(setup.cache)}.incomplete`, part);
    return setup;
  };
  const ranges = ({ hub }: HubSetup): (string | undefined)[] =>
    hub.requests.filter(({ host }) => host === "storage").map(({ range }) => range);

  test("is completed", async () => {
    const setup = await withPart(weights.subarray(0, 123_456));
    await expectWeights(setup);
    expect(ranges(setup)).toEqual(["bytes=123456-"]);
  });

  test("is whole: nothing is asked for", async () => {
    const setup = await withPart(weights);
    await expectWeights(setup);
    expect(setup.hub.downloads).toHaveLength(1); // config.json
  });

  test("has wrong bytes: fetched again from the beginning", async () => {
    const setup = await withPart(Buffer.alloc(1000, 1));
    await expectWeights(setup);
    expect(ranges(setup)).toEqual(["bytes=1000-", undefined]);
  });

  test("is too long: fetched again from the beginning", async () => {
    const setup = await withPart(Buffer.concat([weights, Buffer.alloc(1)]));
    await expectWeights(setup);
    expect(ranges(setup)).toEqual([undefined]);
  });

  test("and the server sends the whole: taken from the beginning", async () => {
    const setup = await withPart(weights.subarray(0, 1000));
    const sendWhole: Parameters<typeof weightsFault>[1] = (request, response, content) =>
      sendContent({ ...request, range: undefined }, response, content, {});
    setup.hub.faults.push(weightsFault(1, sendWhole));
    await expectWeights(setup);
    expect(ranges(setup)).toEqual(["bytes=1000-"]);
  });

  test.each([
    ["answers 416", (response: Parameters<Fault>[1]) => response.writeHead(416, { "content-range": "bytes */10" }).end()],
    ["sends a part of another file", (response: Parameters<Fault>[1]) =>
      response.writeHead(206, { "content-range": "bytes 1000-1009/1010", "content-length": 10 }).end("0123456789")],
  ])("and the server %s: fetched again from the beginning", async (_, answer) => {
    const setup = await withPart(weights.subarray(0, 1000));
    setup.hub.faults.push(weightsFault(1, (_request, response) => answer(response)));
    await expectWeights(setup);
    expect(ranges(setup)).toEqual(["bytes=1000-", undefined]);
  });
});

describe("wrong bytes", () => {
  const wrong = Buffer.from(weights).fill(0, 1000, 1001);
  const sendWrong: Parameters<typeof weightsFault>[1] = (request, response) => sendContent(request, response, wrong, {});

  test("once are fetched again", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(weightsFault(1, sendWrong));
    await expectWeights(setup);
  });

  test("twice are an error, and nothing of them stays", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(weightsFault(2, sendWrong));
    expect(await rejection(() => resolveModel("org/tiny", setup.options()))).toEqual({
      name: "HubError", code: "E_HUB",
      message: "org/tiny: model.safetensors arrived with wrong bytes twice; a proxy or mirror may be at fault",
    });
    await expectWeights(setup);
    expect(setup.hub.requests.at(-1)?.range).toBeUndefined();
  });

  test("are found in small files too, by git's hash", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(({ path }, response) => {
      if (!path.endsWith("/config.json")) return false;
      response.end('{"a": 2}');
      return true;
    });
    expect(await failureOf(setup)).toMatch(/^org\/tiny: config\.json arrived with wrong bytes twice/);
  });

  test("more than the hub lists are an error", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(weightsFault(1, (request, response) => sendContent(request, response, Buffer.concat([weights, weights]), {})));
    expect(await failureOf(setup)).toBe("org/tiny: model.safetensors is longer than the hub lists");
  });
});

describe("a server that is busy", () => {
  const answering = (times: number, status: number, headers: Record<string, string> = {}): Fault => {
    let left = times;
    return (_, response) => {
      if (left-- <= 0) return false;
      response.writeHead(status, headers).end("busy");
      return true;
    };
  };

  test.each([429, 500, 502, 503, 504, 408])("with %d is asked again", async (status) => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(answering(4, status)); // four failures, and the fifth attempt succeeds
    await expectWeights(setup);
    expect(setup.notes[0]).toMatch(new RegExp(`^the server answered ${status} [A-Za-z ]+; trying again in 0\\.0 s$`));
  });

  test("is asked five times", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(answering(5, 503));
    expect(await failureOf(setup)).toMatch(
      /^org\/tiny: no such file .*, and could not reach http:\S+: the server answered 503 Service Unavailable; try again later; /,
    );
    expect(setup.hub.requests).toHaveLength(5);
  });

  test("is given the pause that it asks for", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(answering(1, 429, { "retry-after": "70" }));
    const controller = new AbortController();
    const onNote = (line: string): void => controller.abort(new Error(line)); // instead of waiting for it
    expect((await rejection(() => resolveModel("org/tiny", setup.options({ onNote, signal: controller.signal })))).message).toBe(
      "the server answered 429 Too Many Requests; trying again in 70 s",
    );
  });

  test("is not waited for when it asks for too long a pause", async () => {
    const setup = await setUpHub(model);
    setup.hub.faults.push(answering(1, 429, { "retry-after": new Date(Date.now() + 3_600_000).toUTCString() }));
    expect(await failureOf(setup)).toMatch(/429 Too Many Requests; it asks to wait 60 minutes; try again later/);
    expect(setup.hub.requests).toHaveLength(1);
  });
});

test("the first file that fails ends the others", async () => {
  const setup = await setUpHub({ ...model, files: { ...model.files, "tokenizer.json": "{}" } });
  setup.hub.faults.push(({ path }, response) => {
    if (path.endsWith("/tokenizer.json")) response.writeHead(404, { "x-error-code": "EntryNotFound" }).end();
    else if (path === url) return true; // never answered
    else return false;
    return true;
  });
  expect(await failureOf(setup)).toMatch(/^org\/tiny@a{40}: no such file: .*tokenizer\.json$/);
});

test("hashes are those that git and sha256sum print", async () => {
  // printf hello | git hash-object --stdin; printf hello | sha256sum
  expect(gitHash("hello")).toBe("b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0");
  expect(sha256("hello")).toBe("2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
  const files = { "config.json": "hello", "model.safetensors": "hello" };
  const { cache, options } = await setUpHub({ name: "a", files, large: ["model.safetensors"] });
  await fetchFromHub("model", { repo: "a", revision: "main", selector: undefined }, options());
  expect(readFileSync(join(cache, "models--a", "blobs", gitHash("hello")), "utf8")).toBe("hello");
  expect(readFileSync(join(cache, "models--a", "blobs", sha256("hello")), "utf8")).toBe("hello");
});
