import { alpaca } from "./alpaca.ts";
import { capybaraDpo } from "./capybara-dpo.ts";
import { chatbotArena } from "./chatbot-arena.ts";
import { distilabelOrcaPairs } from "./distilabel-orca-pairs.ts";
import { dolly } from "./dolly.ts";
import { fullHhRlhf } from "./full-hh-rlhf.ts";
import { gsm8k } from "./gsm8k.ts";
import { hc3Chinese } from "./hc3-chinese.ts";
import { helpsteer2 } from "./helpsteer2.ts";
import { helpsteer3 } from "./helpsteer3.ts";
import { hhRlhf } from "./hh-rlhf.ts";
import { miraclJa } from "./miracl-ja.ts";
import { miraclZh } from "./miracl-zh.ts";
import { mkqaChinese } from "./mkqa-chinese.ts";
import { mkqaJapanese } from "./mkqa-japanese.ts";
import { oasst1, oasst2 } from "./open-assistant.ts";
import { openOrca } from "./open-orca.ts";
import { openhermes } from "./openhermes.ts";
import { orcaDpoPairs } from "./orca-dpo-pairs.ts";
import { qagJaquad } from "./qag-jaquad.ts";
import { qgJaquad } from "./qg-jaquad.ts";
import { rlhfRewardDatasets } from "./rlhf-reward-datasets.ts";
import { rmStatic } from "./rm-static.ts";
import { safeRlhf } from "./safe-rlhf.ts";
import { sharegptVicuna } from "./sharegpt-vicuna.ts";
import { shp } from "./shp.ts";
import { slimOrca } from "./slim-orca.ts";
import { syntheticInstruct } from "./synthetic-instruct.ts";
import { ultrachat200k } from "./ultrachat-200k.ts";
import { ultrafeedbackBinarized } from "./ultrafeedback-binarized.ts";
import { ultrafeedback } from "./ultrafeedback.ts";
import { webgpt } from "./webgpt.ts";
import { zhihuKol } from "./zhihu-kol.ts";
import type { NamedDataset } from "./named-dataset.ts";

/** Every data set that is known by its name. */
export const namedDatasets: readonly NamedDataset[] = [
  alpaca, capybaraDpo, chatbotArena, distilabelOrcaPairs, dolly, fullHhRlhf, gsm8k, hc3Chinese, helpsteer2, helpsteer3, hhRlhf,
  miraclJa, miraclZh, mkqaChinese, mkqaJapanese, oasst1, oasst2, openOrca, openhermes, orcaDpoPairs, qagJaquad, qgJaquad,
  rlhfRewardDatasets, rmStatic, safeRlhf, sharegptVicuna, shp, slimOrca, syntheticInstruct, ultrachat200k, ultrafeedbackBinarized,
  ultrafeedback, webgpt, zhihuKol,
];

/**
 * The data set that `path` names: its id, with or without the organisation, behind which `@revision` and `:split` may stand, or a
 * folder whose path ends with the id. Undefined for everything else.
 *
 *     namedDataset("Dahoas/rm-static")?.id            // "Dahoas/rm-static"
 *     namedDataset("rm-static:test")?.id              // "Dahoas/rm-static"
 *     namedDataset("/data/Dahoas/rm-static/")?.id     // "Dahoas/rm-static"
 *     namedDataset("rm-static.jsonl")                 // undefined
 */
export function namedDataset(path: string): NamedDataset | undefined {
  const name = path.replace(/\/+$/, "").replace(/^([^/@:]+(?:\/[^/@:]+)?)[@:].*$/, "$1").toLowerCase();
  return namedDatasets.find(({ id }) => {
    const known = id.toLowerCase();
    return name === known || name === known.slice(known.indexOf("/") + 1) || (known.includes("/") && name.endsWith(`/${known}`));
  });
}
