// node calls.js ROUNDS CALLS: calls a second of each contender from node, one
// connection each, the contenders in turn; a line a measurement for $samples.
const { Client } = require('pg');
const { getPostgreSQLEventStore, postgreSQLEventStoreConsumer, postgreSQLRawSQLProjection } = require('@event-driven-io/emmett-postgresql');
const { sql } = require('@event-driven-io/dumbo');
const { connection } = require('./connection.js');

const [rounds, calls] = process.argv.slice(2).map(Number);
const events = Number(process.env.PEER_EVENTS ?? 200000);
const streams = events / 100;
const long = 10000;
const data = { amount: 1, currency: 'EUR', account: 'DE02120300000000202051', reference: 'invoice 2026-1', by: 'ann', note: 'paid by transfer' };
const stream = () => `account-${Math.floor(Math.random() * streams)}`;

const databases = { immutable: 'peer_immutable', node: 'peer_bare', plpgsql: 'peer_plpgsql', messagedb: 'message_store', pgq: 'peer_pgq' };
const clients = {};
// a prepared statement of a contender's
const run = (name, text, values = []) => clients[name].query({ name: text.slice(0, 60), text, values });

const evolve = (state, { data }) => ({ amount: state.amount + data.amount, entries: state.entries + 1 });
const initial = () => ({ amount: 0, entries: 0 });
const fold = (rows) => rows.reduce(evolve, initial());

const UPSERT = `INSERT INTO bench.balance AS b SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
	ON CONFLICT (stream) DO UPDATE SET amount = b.amount + excluded.amount, entries = b.entries + excluded.entries`;
const upsert = (event) => sql(
	`INSERT INTO balance AS b VALUES (%L, %s, 1) ON CONFLICT (stream) DO UPDATE SET amount = b.amount + excluded.amount, entries = b.entries + 1`,
	event.metadata.streamName, event.data.amount);
const projection = postgreSQLRawSQLProjection({ name: 'balance', canHandle: ['deposited'], evolve: upsert });

let version = 1e9;
let emmett, emmettInline;
const id = () => `20000000-0000-7000-8000-${String(++version).padStart(12, '0')}`;
const insert = (name) => run(name, 'INSERT INTO log (version, id, stream, type, data) VALUES ($1, $2, $3, $4, $5) RETURNING version',
	[++version, id(), stream(), 'deposited', data]);
const emmettEvents = [{ type: 'deposited', data }];

// a contender's read of one stream, and its state
const replay = {
	immutable: (s, log = 'log') => run('immutable', `SELECT * FROM immutable.replay('${log}', $1, NULL::bench.account, 'bench.apply')`, [s]),
	node: async (s) => fold((await run('node', 'SELECT type, data FROM log WHERE stream = $1 ORDER BY version', [s])).rows),
	plpgsql: (s) => run('plpgsql', 'SELECT * FROM bench.replay($1)', [s]),
	messagedb: async (s) => fold((await run('messagedb', 'SELECT type, data FROM get_stream_messages($1, 0, -1)', [s])).rows
		.map((row) => ({ ...row, data: JSON.parse(row.data) }))),
	emmett: (s) => emmett.aggregateStream(s, { evolve, initialState: initial }),
};
const each = (argument) => Object.fromEntries(Object.entries(replay).map(([name, f]) => [name, () => f(argument())]));

const tasks = {
	'append, one a call': {
		immutable: () => run('immutable', "SELECT (immutable.append('log', $1, 'deposited', $2)).version", [stream(), data]),
		node: () => insert('node'),
		messagedb: () => run('messagedb', "SELECT write_message(gen_random_uuid()::varchar, $1::varchar, 'deposited'::varchar, $2::jsonb)", [stream(), data]),
		emmett: () => emmett.appendToStream(stream(), emmettEvents),
		pgq: () => run('pgq', "SELECT pgq.insert_event('q', 'deposited', $1, $2, NULL, NULL, NULL)", [JSON.stringify(data), stream()]),
	},
	'append with an inline read model': {
		immutable: () => run('immutable', "SELECT (immutable.append('inline_log', $1, 'deposited', $2)).version", [stream(), data]),
		node: async () => {
			await run('node', 'BEGIN');
			const s = stream();
			await insert('node');
			await run('node', UPSERT, [[s], [data.amount], [1]]);
			await run('node', 'COMMIT');
		},
		plpgsql: () => run('plpgsql', "SELECT inline.append($1, 'deposited', $2)", [stream(), data]),
		emmett: () => emmettInline.appendToStream(stream(), emmettEvents),
	},
	'state of a stream of 100 events': each(stream),
	'state of a stream of 10,000 events': each(() => 'long-1'),
	'the same with a snapshot at 9,990': { immutable: () => replay.immutable('long-1', 'kept') },
};

// read, fold and upsert batches of 1,000
async function consume(name, read) {
	for (let position = 0; ;) {
		const { rows } = await read(position);
		if (rows.length === 0) return;
		position = rows[rows.length - 1].position;
		const states = new Map();
		for (const row of rows) states.set(row.stream, evolve(states.get(row.stream) ?? initial(), row));
		await run(name, UPSERT, [[...states.keys()], [...states.values()].map((s) => s.amount), [...states.values()].map((s) => s.entries)]);
	}
}

// each returns how many events it folded
const consumers = {
	immutable: async () => {
		let done = 0;
		for (let n; ;) {
			n = Number((await run('immutable', "SELECT immutable.refresh('bench.refreshed') AS n")).rows[0].n);
			if (n === 0) return done;
			done += n;
		}
	},
	plpgsql: () => run('plpgsql', `INSERT INTO bench.balance AS b SELECT stream, sum((data->>'amount')::bigint), count(*) FROM log GROUP BY stream
		ON CONFLICT (stream) DO UPDATE SET amount = b.amount + excluded.amount, entries = b.entries + excluded.entries`),
	node: () => consume('node', (after) => run('node', 'SELECT position, stream, type, data FROM log WHERE position > $1 ORDER BY position LIMIT 1000', [after])),
	messagedb: () => consume('messagedb', async (after) => {
		const { rows } = await run('messagedb', "SELECT global_position AS position, stream_name AS stream, data FROM get_category_messages('account', $1, 1000)", [Number(after) + 1]);
		return { rows: rows.map((row) => ({ ...row, data: JSON.parse(row.data) })) };
	}),
	emmett: async (round) => {
		let left = Math.min(2000, events);
		const folded = left;
		const consumer = postgreSQLEventStoreConsumer({ connectionString: connection('peer_emmett') });
		consumer.projector({ projection, processorId: `balance-${round}`, stopAfter: () => --left <= 0 });
		await consumer.start();
		await consumer.close();
		return folded;
	},
	pgq: async () => {
		await run('pgq', `WITH batch AS MATERIALIZED (SELECT pgq.next_batch('q', 'folder') AS id)
			INSERT INTO bench.balance AS b SELECT e.ev_extra1, sum((e.ev_data::jsonb->>'amount')::bigint), count(*)
			FROM batch, LATERAL pgq.get_batch_events(batch.id) e GROUP BY e.ev_extra1
			ON CONFLICT (stream) DO UPDATE SET amount = b.amount + excluded.amount, entries = b.entries + excluded.entries`);
	},
};
const before = {
	immutable: async (round) => {
		if (round > 1) await clients.immutable.query("SELECT immutable.drop_projection('bench.refreshed'); TRUNCATE bench.refreshed");
		await clients.immutable.query("SELECT immutable.create_projection('bench.refreshed', 'log', 'bench.refreshed_apply', mode => 'async')");
	},
	pgq: () => clients.pgq.query(`TRUNCATE bench.balance; DO $$ BEGIN
		IF EXISTS (SELECT FROM pgq.get_consumer_info('q', 'folder')) THEN PERFORM pgq.unregister_consumer('q', 'folder'); END IF; END $$;
		SELECT pgq.register_consumer_at('q', 'folder', (SELECT min(tick_id) FROM pgq.tick))`),
	emmett: async () => {},
};

const say = (what, round, name, value) => console.log([what, round, name, value].join('\t'));
const seconds = async (f) => {
	const started = process.hrtime.bigint();
	await f();
	return Number(process.hrtime.bigint() - started) / 1e9;
};

async function prepare() {
	for (const [name, database] of Object.entries(databases)) {
		const client = new Client(connection(database));
		try {
			await client.connect();
			clients[name] = client;
		} catch { // a peer that cannot be had here
		}
	}
	emmett = getPostgreSQLEventStore(connection('peer_emmett'), { schema: { autoMigration: 'None' } });
	emmettInline = getPostgreSQLEventStore(connection('peer_emmett'), { schema: { autoMigration: 'None' }, projections: [{ type: 'inline', projection }] });

	await clients.immutable.query(`SELECT immutable.create_log('inline_log'), immutable.create_log('kept');
		CREATE TABLE bench.refreshed (LIKE bench.balance INCLUDING ALL);
		CREATE FUNCTION bench.refreshed_apply(state bench.refreshed, event immutable.event) RETURNS bench.refreshed LANGUAGE sql IMMUTABLE AS
			'SELECT ROW(event.stream, coalesce(state.amount, 0) + (event.data->>''amount'')::bigint, coalesce(state.entries, 0) + 1)::bench.refreshed';
		SELECT immutable.create_projection('bench.balance', 'inline_log', 'bench.balance_apply');
		SELECT count(immutable.append_batch(l, 'long-1', (SELECT array_agg(ROW('deposited', bench.data(i), NULL, NULL, NULL)::immutable.new_event)
			FROM generate_series(1, n) i))) FROM (VALUES ('log'::regclass, ${long}), ('kept', ${long} - 10)) x(l, n);
		SELECT immutable.enable_snapshots('kept', 'bench.apply', 90);
		SELECT immutable.replay('kept', 'long-1', NULL::bench.account, 'bench.apply');
		SELECT count(immutable.append('kept', 'long-1', 'deposited', bench.data(i))) FROM generate_series(1, 10) i`);
	await clients.node.query(`INSERT INTO log (version, id, stream, type, data) SELECT i, bench.id(500000000 + i), 'long-1', 'deposited', bench.data(i) FROM generate_series(1, ${long}) i`);
	await clients.plpgsql.query(`SELECT count(append('long-1', 'deposited', bench.data(i))) FROM generate_series(1, ${long}) i;
		CREATE SCHEMA inline; CREATE TABLE inline.log (LIKE log INCLUDING ALL);
		CREATE TRIGGER upsert AFTER INSERT ON inline.log FOR EACH ROW EXECUTE FUNCTION bench.upsert();
		DO $$ BEGIN EXECUTE replace(replace(replace(pg_get_functiondef('public.append'::regproc), 'public.append', 'inline.append'), 'FROM log', 'FROM inline.log'), 'INTO log', 'INTO inline.log'); END $$`);
	await clients.messagedb?.query(`SELECT count(write_message(gen_random_uuid()::varchar, 'long-1'::varchar, 'deposited'::varchar, bench.data(i))) FROM generate_series(1, ${long}) i`);
	await clients.pgq?.query("SELECT pgq.ticker('q')");
	const setup = new Client(connection('peer_emmett'));
	await setup.connect();
	await setup.query(`CREATE TABLE IF NOT EXISTS balance (LIKE bench.balance INCLUDING ALL);
		SELECT count(bench.append('long-1', bench.data(i))) FROM generate_series(1, ${long}) i; ANALYZE`);
	await setup.end();
	for (const client of Object.values(clients)) await client.query('VACUUM ANALYZE');
}

async function measure() {
	for (let round = 1; round <= rounds; round++) {
		const turn = (entries) => (round % 2 ? entries : entries.reverse());
		for (const [what, contenders] of Object.entries(tasks)) {
			const n = what.includes('10,000') ? Math.ceil(calls / 20) : calls;
			for (const [name, call] of turn(Object.entries(contenders))) {
				if (name !== 'emmett' && !clients[name]) continue;
				await call(); // what is prepared and cached once
				say(what, round, name, n / (await seconds(async () => { for (let i = 0; i < n; i++) await call(); })));
			}
		}
		const what = 'async read model, events a second';
		for (const [name, consumer] of turn(Object.entries(consumers))) {
			if (name !== 'emmett' && !clients[name]) continue;
			await (before[name] ?? (() => clients[name].query('TRUNCATE bench.balance')))(round);
			let folded;
			const took = await seconds(async () => { folded = await consumer(round); });
			if (typeof folded !== 'number') {
				const { rows } = await clients[name].query('SELECT sum(entries) AS n FROM bench.balance');
				folded = Number(rows[0].n);
			}
			say(what, round, name, folded / took);
		}
	}
}

(async () => {
	await prepare();
	await measure();
	await clients.immutable.query("SELECT immutable.drop_projection('bench.refreshed')");
	process.exit(0);
})().catch((error) => {
	console.error(error);
	process.exit(1);
});
