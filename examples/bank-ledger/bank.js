// An application of bank.sql, with node-postgres. It finds the server as psql does
// (PGHOST, PGUSER, PGDATABASE …):
//
//   npm install pg && PGDATABASE=bank node bank.js
const { Pool } = require('pg');
const { randomUUID } = require('crypto');

const pool = new Pool({ max: 8 });

// Runs work in a transaction, again when another one came first: 40001 says that
// the stream has gone on, 40P01 that two transactions waited for each other.
async function transaction(work) {
	for (let attempt = 1; ; attempt++) {
		const client = await pool.connect();
		try {
			await client.query('BEGIN; SET LOCAL ROLE bank_app'); // or log in as it
			const result = await work(client);
			await client.query('COMMIT');
			return result;
		} catch (error) {
			await client.query('ROLLBACK');
			if (!['40001', '40P01'].includes(error.code) || attempt === 50) throw error;
			await new Promise((done) => setTimeout(done, Math.random() * 10 * attempt));
		} finally {
			client.release();
		}
	}
}

// Appends one event and answers with { version, position, written }. The cast
// tells the server what a NULL is; pg hands bigint over as text, so Number().
async function append(client, account, type, data, { expected = null, id = null } = {}) {
	const { rows } = await client.query(
		'SELECT * FROM immutable.append($1, $2, $3, $4, expected_version => $5, id => $6)',
		['ledger', account, type, data, expected, id]);
	const { version, position, written } = rows[0];
	return { version: Number(version), position: Number(position), written };
}

// Decides on what the account is now, and appends only if it still is that.
async function withdraw(client, account, amount, id) {
	const { rows: [now] } = await client.query('SELECT * FROM account_now($1)', [account]);
	if (now.owner === null) throw new Error(`no account ${account}`);
	if (Number(now.balance) < amount) throw new Error(`${account} has only ${now.balance}`);
	return append(client, account, 'withdrawn', { amount }, { expected: now.version, id });
}

// Both accounts or none. Whichever account comes first waits for nobody who
// waits for it, because all transfers take them in the same order.
function transfer(from, to, amount) {
	const steps = [
		[from, (client) => withdraw(client, from, amount)],
		[to, (client) => append(client, to, 'deposited', { amount })],
	].sort(([a], [b]) => (a < b ? -1 : 1));
	return transaction(async (client) => {
		for (const [, step] of steps) await step(client);
	});
}

// Letters leave the database, so they go out under a lease, at least once. The
// event's id lets the post office recognise a letter that it has had.
async function sendLetters(postOffice) {
	const client = await pool.connect(); // the lease belongs to this session
	try {
		for (;;) {
			const { rows } = await client.query(
				"SELECT position, id, stream, type FROM immutable.poll('letters', max_events => 10, timeout => '100 ms', lease => '30 s')");
			if (rows.length === 0) return;
			for (const event of rows) postOffice.set(event.id, `${event.stream}: ${event.type}`);
			await client.query('SELECT immutable.ack($1, $2)', ['letters', rows.at(-1).position]);
		}
	} finally {
		client.release();
	}
}

async function main() {
	const names = ['ann', 'bob', 'cleo', 'dan'];
	for (const name of names) {
		await transaction(async (client) => {
			await append(client, `account-${name}`, 'opened', { owner: name }, { expected: 0 });
			await append(client, `account-${name}`, 'deposited', { amount: 100 });
		});
	}

	// 40 transfers in a ring, 8 at a time: no cent is made or lost
	const jobs = Array.from({ length: 40 }, (_, i) => [names[i % 4], names[(i + 1) % 4]]);
	await Promise.all(Array.from({ length: 8 }, async () => {
		for (let job = jobs.pop(); job; job = jobs.pop()) {
			await transfer(`account-${job[0]}`, `account-${job[1]}`, 5);
		}
	}));
	const { rows: balances } = await pool.query('SELECT owner, balance FROM balances ORDER BY owner');
	console.log('balances:', balances.map((b) => `${b.owner} ${b.balance}`).join(', '));

	// a decision on what is no longer so is refused
	try {
		await append(pool, 'account-ann', 'withdrawn', { amount: 1 }, { expected: 1 });
	} catch (error) {
		console.log('stale:', error.code, error.constraint);
	}

	// no answer came? The same call again, with the same id, writes nothing
	const id = randomUUID();
	const first = await transaction((client) => withdraw(client, 'account-ann', 10, id));
	const again = await append(pool, 'account-ann', 'withdrawn', { amount: 10 }, { id });
	console.log('sent twice:', again.version === first.version, 'written', first.written, again.written);

	// what the application decides
	await transaction((client) => withdraw(client, 'account-bob', 1000))
		.catch((error) => console.log('refused:', error.message));

	// read your writes: the worker's read model, once it has come to our event
	const { rows: [waited] } = await pool.query("SELECT immutable.wait_for('turnover', $1, timeout => '10 s') AS there",
		[first.position]);
	const { rows: turnover } = await pool.query('SELECT type, entries, total FROM turnover ORDER BY type');
	console.log('turnover:', waited.there, turnover.map((t) => `${t.type} ${t.entries} ${t.total}`).join(', '));

	const postOffice = new Map();
	await sendLetters(postOffice);
	console.log('letters:', postOffice.size);

	// history stays as it is
	await pool.query("UPDATE ledger SET data = '{}'").catch((error) => console.log('history:', error.code));
	const { rows: wrong } = await pool.query("SELECT * FROM immutable.verify_projection('balances')");
	console.log('balances that differ from their events:', wrong.length);
	await pool.end();
}

main().catch((error) => {
	console.error(error);
	process.exit(1);
});
