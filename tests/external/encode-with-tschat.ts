// node tests/external/encode-with-tschat.ts FILE MODEL: encodes a data file to SFT samples with loss mask, without cache.
import { prepareData } from "../../src/data/prepare.ts";
import { demonstrationEncoder } from "../../src/data/record-encoders.ts";
import { Tokenizer } from "../../src/tokenizer/tokenizer.ts";

const [path = "", model = ""] = process.argv.slice(2);
const tokenizer = await Tokenizer.load(model);
const start = performance.now(), before = process.cpuUsage();
const encoder = demonstrationEncoder(tokenizer, { maxSeqLen: 8192, lossOn: "answer" });
const { train } = await prepareData([path], "sft", { encoder, seed: 1 });
const { user, system } = process.cpuUsage(before);
const seconds = ((performance.now() - start) / 1000).toFixed(2), cpu = ((user + system) / 1e6).toFixed(2);
process.stdout.write(`${train.length} conversations in ${seconds} s, ${cpu} s of processor time\n`);
