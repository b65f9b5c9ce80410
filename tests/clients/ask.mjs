// Ask models by transformers.js as its users do: questions come as JSON on the standard input, answers go as JSON to its output.
import { readFileSync } from 'node:fs';
import * as transformers from '@huggingface/transformers';

const { env, pipeline, AutoTokenizer } = transformers;
env.allowRemoteModels = false;

const answers = [];
for (const { folder, dtype, auto, texts, pairs, length } of JSON.parse(readFileSync(0, 'utf8'))) {
  const tokenizer = await AutoTokenizer.from_pretrained(folder);
  const model = await transformers[auto].from_pretrained(folder, { dtype });
  const options = { padding: true, truncation: true, max_length: length, ...(pairs ? { text_pair: pairs, return_token_type_ids: true } : {}) };
  const outputs = await model(await tokenizer(texts, options));
  const answer = { ids: (await tokenizer(texts, options)).input_ids.tolist().map((row) => row.map(Number)) };
  for (const name of ['logits', 'start_logits', 'end_logits']) {
    if (outputs[name]) answer[name] = outputs[name].tolist();
  }
  if (auto === 'AutoModelForSequenceClassification' && !pairs && model.config.problem_type !== 'regression') {
    const classify = await pipeline('text-classification', folder, { dtype });
    answer.pipeline = await classify(texts.slice(0, 1), { top_k: null });
  }
  answers.push(answer);
}
console.log(JSON.stringify(answers));
