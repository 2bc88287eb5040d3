// The connection string of a database behind PGHOST's socket.
exports.connection = (database) =>
	`postgresql://${process.env.PGUSER ?? 'postgres'}@/${database}?host=${encodeURIComponent(process.env.PGHOST)}&port=${process.env.PGPORT ?? 5432}`;
