// node fold.js COLUMNS: the balances of bench/fold.sql, folded in JavaScript
// from rows that node-postgres fetches through a cursor over the local socket.
// Prints the milliseconds from the query to the last state.
const { Client } = require('pg');
const Cursor = require('pg-cursor');

function apply(state, event) {
	switch (event.type) {
		case 'deposited':
			return { balance: (state?.balance ?? 0) + event.data.amount, entries: (state?.entries ?? 0) + 1 };
		case 'withdrawn':
			return { balance: (state?.balance ?? 0) - event.data.amount, entries: (state?.entries ?? 0) + 1 };
		default:
			return state;
	}
}

async function main() {
	const client = new Client();
	await client.connect();
	const expected = await client.query('SELECT bench.fold_group_by() AS total');
	const started = process.hrtime.bigint();
	const cursor = client.query(new Cursor(`SELECT ${process.argv[2]} FROM ledger ORDER BY position`));
	const states = new Map();
	for (;;) {
		const rows = await cursor.read(1000);
		if (rows.length === 0) break;
		for (const event of rows) states.set(event.stream, apply(states.get(event.stream), event));
	}
	const milliseconds = Number(process.hrtime.bigint() - started) / 1e6;
	let total = 0;
	for (const state of states.values()) total += state.balance;
	if (total !== Number(expected.rows[0].total)) throw new Error(`${total} is not ${expected.rows[0].total}`);
	console.log(milliseconds.toFixed(1));
	await client.end();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
