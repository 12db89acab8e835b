import { readdirSync, readFileSync, readlinkSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { fetchFromHub, resolveDataset, resolveModel } from "../../src/hub/resolve.ts";
import { rejection } from "../failure.ts";
import { type Fault, type LocalRepo, mainCommit, sha256 } from "./local-hub.ts";
import { setUpHub } from "./setup.ts";

const small = {
  "config.json": "{}", "generation_config.json": "{ }", "tokenizer.json": "{}", "tokenizer_config.json": "[]", "chat_template.jinja": "x",
};
const tiny: LocalRepo = {
  name: "org/tiny", large: ["model.safetensors", "pytorch_model.bin"],
  files: { ...small, "model.safetensors": "weights", "pytorch_model.bin": "pickled", "README.md": "text", "onnx/model.onnx": "o" },
};
const later = "b".repeat(40);
const failureOf = async (action: () => Promise<unknown>): Promise<string> => (await rejection(action)).message;
const list = (folder: string): string[] => readdirSync(folder).sort();

describe("a model", () => {
  test("is what is needed of it, in the layout of the shared cache", async () => {
    const { cache, options } = await setUpHub(tiny);
    const folder = await resolveModel("org/tiny", options());
    const repo = join(cache, "models--org--tiny");
    expect(folder).toBe(join(repo, "snapshots", mainCommit));
    expect(list(folder)).toEqual([...Object.keys(small), "model.safetensors"].sort());
    expect(readlinkSync(join(folder, "model.safetensors"))).toBe(`../../blobs/${sha256("weights")}`);
    // printf '{}' | git hash-object --stdin; both files with this content share it
    expect(readlinkSync(join(folder, "config.json"))).toBe("../../blobs/9e26dfeeb6e641a33dae4961196235bdb965b21b");
    expect(readlinkSync(join(folder, "tokenizer.json"))).toBe("../../blobs/9e26dfeeb6e641a33dae4961196235bdb965b21b");
    expect(list(join(repo, "blobs"))).toHaveLength(5);
    expect(readFileSync(join(repo, "refs", "main"), "utf8")).toBe(mainCommit);
    const tree = JSON.parse(readFileSync(join(repo, "trees", `${mainCommit}.json`), "utf8")) as { files: Record<string, unknown> };
    expect(tree).toMatchObject({ format_version: 1 });
    expect(tree.files["model.safetensors"]).toMatchObject({ size: 7, lfs_sha256: sha256("weights"), lfs_size: 7 });
    expect(Object.keys(tree.files)).toHaveLength(9); // all files, not only those that are here
  });

  test("comes from the hub once; afterwards it is asked only what main is now", async () => {
    const { hub, options } = await setUpHub(tiny);
    const folder = await resolveModel("org/tiny", options());
    hub.requests.length = 0;
    expect(await resolveModel("org/tiny", options())).toBe(folder);
    expect(hub.requests.map(({ path }) => path)).toEqual(["/api/models/org/tiny/revision/main"]);
    expect(await resolveModel(`org/tiny@${mainCommit}`, options())).toBe(folder);
    expect(hub.requests).toHaveLength(1);
  });

  test("is asked for once in a process and those that it starts, whatever happens to main meanwhile", async () => {
    const { hub, options } = await setUpHub({ ...tiny, filesAt: { [later]: { ...small, "model.safetensors": "new" } } });
    const { env, ...rest } = options();
    const folder = await resolveModel("org/tiny", { env, ...rest });
    hub.repos[0] = { ...tiny, revisions: { main: later } };
    expect(await resolveModel("org/tiny", { env, ...rest })).toBe(folder);
    expect(await resolveModel("org/tiny", { ...rest, env: { ...env } })).toBe(folder);
    expect(hub.requests.filter(({ path }) => path.includes("/revision/"))).toHaveLength(1);
  });

  test("follows a branch, and keeps what both commits have", async () => {
    const { hub, cache, options } = await setUpHub({ ...tiny, filesAt: { [later]: { ...small, "model.safetensors": "new" } } });
    await resolveModel("org/tiny", options());
    hub.repos[0] = { ...tiny, ...hub.repos[0], revisions: { main: later } } as LocalRepo;
    hub.requests.length = 0;
    const folder = await resolveModel("org/tiny", options());
    expect(readFileSync(join(folder, "model.safetensors"), "utf8")).toBe("new");
    expect(hub.downloads).toHaveLength(2); // the weights and where they are redirected to; the small files are linked
    expect(readFileSync(join(cache, "models--org--tiny", "refs", "main"), "utf8")).toBe(later);
  });

  test("is taken at a tag, a branch of a pull request, and by a name without organisation", async () => {
    const filesAt = { [later]: { ...tiny.files, "config.json": "[1]" } };
    const { cache, options } = await setUpHub({ ...tiny, name: "gpt2", revisions: { v1: later }, filesAt });
    const folder = await resolveModel("gpt2@v1", options());
    expect(readFileSync(join(folder, "config.json"), "utf8")).toBe("[1]");
    expect(readFileSync(join(cache, "models--gpt2", "refs", "v1"), "utf8")).toBe(later);
  });

  test("has the shards that its index names, and no others", async () => {
    const index = JSON.stringify({ weight_map: { a: "model-1.safetensors", b: "model-2.safetensors", c: "model-1.safetensors" } });
    const { options } = await setUpHub({
      name: "org/big", files: {
        "config.json": "{}", "model.safetensors.index.json": index, "model-1.safetensors": "1", "model-2.safetensors": "2",
        "model-00001-of-00009.safetensors": "left over", "pytorch_model.bin.index.json": "{}",
      },
    });
    expect(list(await resolveModel("org/big", options()))).toEqual(
      ["config.json", "model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"],
    );
  });

  test.each([
    ["pickled weights where there are no others", ["config.json", "pytorch_model.bin"], ["config.json", "pytorch_model.bin"]],
    ["an adapter", ["adapter_config.json", "adapter_model.safetensors", "adapter_model.bin", "x.png"],
      ["adapter_config.json", "adapter_model.safetensors"]],
  ])("may be %s", async (_, names, expected) => {
    const { options } = await setUpHub({ name: "org/x", files: Object.fromEntries(names.map((name) => [name, name])) });
    expect(list(await resolveModel("org/x", options()))).toEqual(expected);
  });

  test("may be one .gguf file, named in full or by a part", async () => {
    const files = { "x-Q4_K_M.gguf": "4", "x-Q8_0.gguf": "8", "sub/y-Q4_0.gguf": "s" };
    const { options } = await setUpHub({ name: "org/x-GGUF", files });
    expect(readFileSync(await resolveModel("org/x-GGUF:x-Q8_0.gguf", options()), "utf8")).toBe("8");
    expect(readFileSync(await resolveModel("org/x-GGUF:q4_k_m", options()), "utf8")).toBe("4");
    expect(await failureOf(() => resolveModel("org/x-GGUF:Q4", options()))).toBe(
      "org/x-GGUF:Q4: several .gguf files match: sub/y-Q4_0.gguf, x-Q4_K_M.gguf",
    );
    expect(await failureOf(() => resolveModel("org/x-GGUF:Q5", options()))).toMatch(
      /no \.gguf file matches; there are sub\/y-Q4_0\.gguf, x-Q4_K_M\.gguf, /,
    );
    expect(await failureOf(() => resolveModel("org/x-GGUF", options()))).toBe(
      "org/x-GGUF: has .gguf files only: name one, as org/x-GGUF:sub/y-Q4_0.gguf; there are sub/y-Q4_0.gguf, x-Q4_K_M.gguf, x-Q8_0.gguf",
    );
  });

  test.each([
    ["no weights", { "config.json": "{}", "tf_model.h5": "x" }, "org/x: has no model.safetensors, pytorch_model.bin or " +
      "adapter_model.safetensors, but tf_model.h5; choose another repository"],
    ["an index without its shards", { "model.safetensors.index.json": '{"weight_map": {"a": "m-1.safetensors"}}' },
      "org/x: model.safetensors.index.json names m-1.safetensors, which is not there; its upload is incomplete"],
    ["an index that names files elsewhere", { "model.safetensors.index.json": '{"weight_map": {"a": "../../x"}}' },
      "org/x: model.safetensors.index.json names ../../x, which is not there; its upload is incomplete"],
    ["an empty index", { "model.safetensors.index.json": "{}" },
      "org/x: model.safetensors.index.json names no files; its upload is incomplete"],
    ["an index that is no JSON", { "model.safetensors.index.json": "<html>" },
      "org/x: model.safetensors.index.json is not valid JSON; choose another revision or repository"],
  ] as [string, Record<string, string>, string][])("is refused with %s", async (_, files, message) => {
    const { options } = await setUpHub({ name: "org/x", files });
    expect(await rejection(() => resolveModel("org/x", options()))).toEqual({ name: "ConfigError", code: "E_CONFIG", message });
  });

  test("is refused when the hub lists a file outside of the repository", async () => {
    const { options } = await setUpHub({ name: "org/x", files: { "../../../evil": "x", "model.safetensors": "w" } });
    expect(await rejection(() => resolveModel("org/x", options()))).toEqual({
      name: "HubError", code: "E_HUB", message: "org/x: the hub lists a file outside of the repository: ../../../evil",
    });
  });
});

describe("what the hub refuses", () => {
  const messageOf = async (repo: LocalRepo | undefined, text: string, token?: string): Promise<string> => {
    const { hub, options } = await setUpHub(...(repo ? [repo] : []));
    const { name, message } = await rejection(() => resolveModel(text, options({ env: { HF_TOKEN: token } })));
    expect(name).toBe("ConfigError");
    expect(hub.requests.length).toBeLessThan(10); // it is not asked again and again
    return message.replaceAll(hub.endpoint, "HUB");
  };

  test("a repository that is not there, or is private", async () => {
    const message = (advice: string): string =>
      `org/nix: no such file or folder here, and no such model at HUB (if it is private, ${advice}; ` +
      "if it is a data set, it does not belong here)";
    expect(await messageOf(undefined, "org/nix")).toBe(message("set HF_TOKEN"));
    const isPrivate = { ...tiny, name: "org/nix", token: "hf_other" };
    expect(await messageOf(isPrivate, "org/nix", "hf_mine")).toBe(message("HF_TOKEN must be allowed to read it"));
  });

  test("a model behind conditions", async () => {
    const gated = { ...tiny, isGated: true };
    expect(await messageOf(gated, "org/tiny")).toBe(
      "org/tiny: the model is behind conditions: accept its conditions at HUB/org/tiny, and set HF_TOKEN to a token of that account",
    );
    expect(await messageOf(gated, "org/tiny", "hf_x")).toMatch(/behind conditions: the account of this HF_TOKEN has no access/);
  });

  test("a revision", async () => {
    expect(await messageOf(tiny, "org/tiny@v9")).toBe('org/tiny: the model has no revision "v9"; HUB/org/tiny lists its branches and tags');
  });

  test("a token", async () => {
    const { hub, options } = await setUpHub(tiny);
    hub.faults.push((_, response) => {
      response.writeHead(401, { "x-error-message": "Invalid credentials in Authorization header" }).end();
      return true;
    });
    expect(await failureOf(() => resolveModel("org/tiny", options({ env: { HF_TOKEN: "hf_old" } })))).toMatch(
      /^org\/tiny: the hub does not know the token of HF_TOKEN \(or of hf auth login\); make a new one at /,
    );
  });
});

describe("without the hub", () => {
  const offline = { HF_HUB_OFFLINE: "1" };

  test("the cache serves, at the commit that the branch was last", async () => {
    const { hub, options } = await setUpHub(tiny);
    const folder = await resolveModel("org/tiny", options());
    hub.requests.length = 0;
    expect(await resolveModel("org/tiny", options({ env: offline }))).toBe(folder);
    expect(hub.requests).toEqual([]);
    await hub.stop();
    const notes: string[] = [];
    expect(await resolveModel("org/tiny", options({ onNote: (line) => notes.push(line) }))).toBe(folder);
    expect(notes.at(-1)).toMatch(/^org\/tiny: could not reach http:\S+: the connection to \S+ broke .*; taken from the cache as it is$/);
  });

  test("a cache without listings serves too, as older tools leave it", async () => {
    const { cache, options } = await setUpHub(tiny);
    const folder = await resolveModel("org/tiny", options());
    rmSync(join(cache, "models--org--tiny", "trees"), { recursive: true });
    expect(await resolveModel("org/tiny", options({ env: offline }))).toBe(folder);
  });

  test("what is not in the cache is an error that says how to get it", async () => {
    const { cache, options } = await setUpHub(tiny);
    expect(await rejection(() => resolveModel("org/tiny@v1", options({ env: offline })))).toEqual({
      name: "ConfigError", code: "E_CONFIG",
      message: "org/tiny: no such file or folder here, and the cache does not hold a model of this name (HF_HUB_OFFLINE=1); " +
        `to fetch it by hand, run on a machine with access: hf download org/tiny --revision v1 and copy the folder ` +
        `models--org--tiny of its cache into ${cache}`,
    });
    expect(await failureOf(() => resolveDataset("org/set", options({ env: offline })))).toMatch(
      /a data set of this name .* hf download org\/set --repo-type dataset --revision main and copy the folder datasets--org--set /,
    );
  });

  test("a file that is missing is named", async () => {
    const { options } = await setUpHub(tiny);
    const folder = await resolveModel("org/tiny", options());
    rmSync(join(folder, "model.safetensors"));
    symlinkSync("../../blobs/gone", join(folder, "model.safetensors"));
    expect(await failureOf(() => resolveModel("org/tiny", options({ env: offline })))).toMatch(
      /^org\/tiny: model\.safetensors of a{40} is not in the cache, and HF_HUB_OFFLINE=1; to fetch it by hand, .*: hf download org\/tiny /,
    );
    expect(readFileSync(join(await resolveModel("org/tiny", options()), "model.safetensors"), "utf8")).toBe("weights");
  });

  test("and without a cache the connection's error is told, with the way out", async () => {
    const { hub, options } = await setUpHub(tiny);
    await hub.stop();
    expect(await rejection(() => resolveModel("org/tiny", options()))).toMatchObject({
      name: "HubError", code: "E_HUB",
      message: expect.stringMatching(/, and could not reach http.* broke .*; try again later; to fetch it by hand, /),
    });
  });
});

test("what answers is no hub: the cache serves, or it is told", async () => {
  const { hub, notes, options } = await setUpHub(tiny);
  const portal: Fault = (_, response) => {
    response.writeHead(200, { "content-type": "text/html" }).end("<html>Welcome to our hotel</html>");
    return true;
  };
  hub.faults.push(portal);
  expect(await failureOf(() => resolveModel("org/tiny", options()))).toMatch(/, and http\S+ answers as no hub does \(a page to log in /);
  hub.faults.length = 0;
  const folder = await resolveModel("org/tiny", options());
  hub.faults.push(portal);
  expect(await resolveModel("org/tiny", options())).toBe(folder);
  expect(notes.at(-1)).toMatch(/^org\/tiny: http\S+ answers as no hub does .*; taken from the cache as it is$/);
});

test("files that do not fit on the disk are not begun", async () => {
  const { hub, cache, options } = await setUpHub(tiny);
  hub.faults.push(({ path }, response) => {
    if (!path.includes("/tree/")) return false;
    const huge = { type: "file", path: "model.safetensors", oid: "c".repeat(40), size: 9e15 };
    response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify([huge]));
    return true;
  });
  expect(await failureOf(() => resolveModel("org/tiny", options()))).toMatch(
    new RegExp(`^org/tiny: 9000000\\.0 GB do not fit into ${cache}, which has [\\d.]+ GB left; free some space or name another folder in `),
  );
  expect(hub.downloads).toEqual([]);
});

test("a path is returned as it is, and the hub is not asked", async () => {
  const { hub, options } = await setUpHub(tiny);
  for (const path of ["./org/tiny", "/nonexistent/x", "a/b/c", "missing.gguf"]) {
    expect(await resolveModel(path, options())).toBe(path);
    expect(await resolveDataset(path, options())).toEqual([path]);
  }
  expect(hub.requests).toEqual([]);
});

test("a cache that cannot be written to is named", async () => {
  const { cache, options } = await setUpHub(tiny);
  writeFileSync(cache, "a file where the folder should be");
  expect(await rejection(() => resolveModel("org/tiny", options()))).toEqual({
    name: "ConfigError", code: "E_CONFIG",
    message: `could not write into the hub cache ${cache}: not a directory; free some space or name another folder in HF_HUB_CACHE`,
  });
});

describe("a data set", () => {
  const set: LocalRepo = {
    kind: "dataset", name: "org/set", large: ["data/train-00000-of-00002.parquet"],
    files: {
      "README.md": "# no header", "data/train-00000-of-00002.parquet": "a", "data/train-00001-of-00002.parquet": "b",
      "data/test-00000-of-00001.parquet": "c", "set.py": "raise SystemExit",
    },
  };

  test("is the files of one split", async () => {
    const { hub, cache, options } = await setUpHub(set);
    const folder = join(cache, "datasets--org--set", "snapshots", mainCommit, "data");
    const train = ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"];
    expect(await resolveDataset("org/set", options())).toEqual(train.map((name) => join(folder, name)));
    expect(hub.downloads.some((line) => line.includes("test-"))).toBe(false);
    expect(await resolveDataset("org/set:test", options())).toEqual([join(folder, "test-00000-of-00001.parquet")]);
    const { pinned } = await fetchFromHub("dataset", { repo: "org/set", revision: "main", selector: "test" }, options());
    expect(pinned).toBe(`org/set@${mainCommit}:test`);
    expect(await resolveDataset(pinned, options({ env: { HF_HUB_OFFLINE: "1" } }))).toEqual([join(folder, "test-00000-of-00001.parquet")]);
  });

  test("that is made by a script comes from the Parquet conversion; the script is never fetched", async () => {
    const converted = { "default/train/0000.parquet": "t", "default/partial-test/0000.parquet": "p" };
    const { hub, cache, notes, options } = await setUpHub({
      ...set, files: { "set.py": "raise SystemExit", "data.zip": "z" },
      revisions: { "refs/convert/parquet": later }, filesAt: { [later]: converted },
    });
    const [path] = await resolveDataset("org/set", options());
    expect(path).toBe(join(cache, "datasets--org--set", "snapshots", later, "default/train/0000.parquet"));
    expect(notes).toEqual([
      "org/set: is made by a script (set.py), and scripts are never run; its Parquet conversion is taken (refs/convert/parquet)",
    ]);
    expect(readFileSync(join(cache, "datasets--org--set", "refs", "refs/convert/parquet"), "utf8")).toBe(later);
    const { pinned } = await fetchFromHub("dataset", { repo: "org/set", revision: "main", selector: "test" }, options());
    expect(pinned).toBe(`org/set@${later}:test`);
    expect(notes.at(-1)).toBe("org/set: the hub has converted only the beginning of this data set to Parquet");
    expect(hub.requests.some(({ path: requested }) => requested.endsWith(".py"))).toBe(false);
  });

  test("that is made by a script without a conversion is refused", async () => {
    const { options } = await setUpHub({ ...set, files: { "set.py": "raise SystemExit" } });
    expect(await failureOf(() => resolveDataset("org/set", options()))).toMatch(
      /script \(set\.py\), and scripts are never run, and its Parquet conversion is not to be had \(org\/set: the data set has no /,
    );
  });
});
