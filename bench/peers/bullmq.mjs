// BullMQ's side of the comparison: `node bullmq.mjs sandboxed|inprocess` works, `submit|fill|latency COUNT` measures.
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(path.join(process.env.PEER_NODE_MODULES, 'x.js'));
const { Queue, QueueEvents, Worker } = require('bullmq');

const url = new URL(process.env.PEER_REDIS_URL);
const connection = { host: url.hostname, port: Number(url.port), maxRetriesPerRequest: null };
const payload = { data: 'x'.repeat(89) };
const [mode, count] = [process.argv[2], Number(process.argv[3])];
const handler = path.join(path.dirname(fileURLToPath(import.meta.url)), 'bullmq_handler.cjs');
const batch = 1000;

async function timed(work) {
  const begin = process.hrtime.bigint();
  await work();
  return Number(process.hrtime.bigint() - begin) / 1e9;
}

async function latencies(queue) {
  const events = new QueueEvents('bench', { connection });
  await events.waitUntilReady();
  const found = [];
  for (let i = 0; i < count; i++) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    const begin = process.hrtime.bigint();
    const job = await queue.add('moment', {});
    const started = BigInt(await job.waitUntilFinished(events, 30000));
    found.push([Number(started - begin) / 1e6, Number(process.hrtime.bigint() - begin) / 1e6]);
  }
  await events.close();
  return found;
}

async function measure() {
  const queue = new Queue('bench', { connection });
  await queue.waitUntilReady();
  let told;
  if (mode === 'submit') {
    told = await timed(async () => { for (let i = 0; i < count; i++) await queue.add('noop', payload); });
  } else if (mode === 'fill') {
    told = await timed(async () => {
      for (let start = 0; start < count; start += batch) {
        const jobs = Array.from({ length: Math.min(batch, count - start) }, () => ({ name: 'noop', data: payload }));
        await queue.addBulk(jobs);
      }
    });
  } else {
    told = await latencies(queue);
  }
  await queue.close();
  process.stdout.write(JSON.stringify(told));
}

if (mode === 'sandboxed') {
  new Worker('bench', handler, { connection, concurrency: 2 });
} else if (mode === 'inprocess') {
  new Worker('bench', require(handler), { connection, concurrency: 100 });
} else {
  await measure();
  process.exit(0);
}
