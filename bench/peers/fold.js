// node fold.js ROUND WHAT: events a second of a node application that reads the
// bare table through a cursor and folds the balances.
const { Client } = require('pg');
const Cursor = require('pg-cursor');
const { connection } = require('./connection.js');

(async () => {
	const client = new Client(connection('peer_bare'));
	await client.connect();
	const started = process.hrtime.bigint();
	const cursor = client.query(new Cursor('SELECT stream, type, data FROM log ORDER BY position'));
	const states = new Map();
	let events = 0;
	for (;;) {
		const rows = await cursor.read(1000);
		if (rows.length === 0) break;
		events += rows.length;
		for (const { stream, data } of rows) {
			const state = states.get(stream) ?? { amount: 0, entries: 0 };
			states.set(stream, { amount: state.amount + data.amount, entries: state.entries + 1 });
		}
	}
	const seconds = Number(process.hrtime.bigint() - started) / 1e9;
	console.log([process.argv[3], process.argv[2], 'node', events / seconds].join('\t'));
	await client.end();
})().catch((error) => {
	console.error(error);
	process.exit(1);
});
