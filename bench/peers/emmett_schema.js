// Emmett's tables and functions, made by its own client in the database peer_emmett.
const { getPostgreSQLEventStore } = require('@event-driven-io/emmett-postgresql');
const { connection } = require('./connection.js');

(async () => {
	const store = getPostgreSQLEventStore(connection('peer_emmett'));
	await store.schema.migrate();
	await store.close();
})().catch((error) => {
	console.error(error);
	process.exit(1);
});
