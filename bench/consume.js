// node consume.js: the balances of bench/projection.sql, kept by a consumer in
// JavaScript: it reads the log a thousand events at a time, folds them, and
// upserts the accounts they concern with its position, a transaction a batch.
// Prints the milliseconds from the first query to the last commit.
const { Client } = require('pg');

async function main() {
	const client = new Client();
	await client.connect();
	await client.query('TRUNCATE bench.consumed');
	await client.query('CREATE TEMP TABLE consumer AS SELECT 0::bigint AS position');
	const started = process.hrtime.bigint();
	let position = 0;
	let total = 0;
	for (;;) {
		await client.query('BEGIN');
		const { rows } = await client.query({ name: 'read',
			text: 'SELECT position, stream, type, data FROM history WHERE position > $1 ORDER BY position LIMIT 1000', values: [position] });
		if (rows.length === 0) break;
		const changes = new Map();
		for (const event of rows) {
			const change = changes.get(event.stream) ?? { balance: 0, entries: 0 };
			if (event.type === 'deposited') change.balance += event.data.amount;
			else if (event.type === 'withdrawn') change.balance -= event.data.amount;
			change.entries++;
			changes.set(event.stream, change);
		}
		await client.query({ name: 'write',
			text: `INSERT INTO bench.consumed AS b SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
				ON CONFLICT (stream) DO UPDATE SET balance = b.balance + EXCLUDED.balance, entries = b.entries + EXCLUDED.entries`,
			values: [[...changes.keys()], [...changes.values()].map((c) => c.balance), [...changes.values()].map((c) => c.entries)] });
		position = rows[rows.length - 1].position;
		await client.query('UPDATE consumer SET position = $1', [position]);
		await client.query('COMMIT');
		total += rows.length;
	}
	await client.query('COMMIT');
	const milliseconds = Number(process.hrtime.bigint() - started) / 1e6;
	if (total !== 500000) throw new Error(`${total} events`);
	console.log(milliseconds.toFixed(1));
	await client.end();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
