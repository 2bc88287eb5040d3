-- What the demo reads: the lines of dpkg's log, and what dpkg itself says.

CREATE TABLE line (
	number bigint PRIMARY KEY,
	stream text,        -- NULL: the line concerns no package
	type text NOT NULL,
	data jsonb
);

CREATE TABLE dpkg (
	package text PRIMARY KEY,
	status text NOT NULL,
	version text
);

-- The demo is a test as well: it stops when something is not as it says.
CREATE FUNCTION must(ok boolean, otherwise text) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
	IF ok IS NOT TRUE THEN
		RAISE EXCEPTION '%', otherwise;
	END IF;
END
$$;
