-- Written by the first release, which knew no revisions: the tables on PostgreSQL.
CREATE TABLE releases (
	version INTEGER NOT NULL, 
	digest TEXT NOT NULL, 
	state TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	model TEXT NOT NULL, 
	index TEXT NOT NULL, 
	catalogue TEXT NOT NULL, 
	specs TEXT NOT NULL, 
	manifest TEXT NOT NULL, 
	params TEXT NOT NULL, 
	code TEXT NOT NULL, 
	commit TEXT NOT NULL, 
	created TEXT NOT NULL, 
	files TEXT NOT NULL, 
	evidence TEXT, 
	approved_by TEXT, 
	approved_at TEXT, 
	against INTEGER, 
	promoted INTEGER, 
	offered INTEGER NOT NULL, 
	audited INTEGER NOT NULL, 
	PRIMARY KEY (version), 
	UNIQUE (digest)
);
CREATE UNIQUE INDEX one_champion ON releases (state) WHERE state = 'champion';
CREATE TABLE audit (
	number INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	actor TEXT NOT NULL, 
	action TEXT NOT NULL, 
	version INTEGER, 
	detail TEXT NOT NULL, 
	before TEXT NOT NULL, 
	hash TEXT NOT NULL, 
	PRIMARY KEY (number)
);
CREATE OR REPLACE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$;
CREATE TRIGGER audit_row BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse();
CREATE TRIGGER audit_all BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse();
CREATE TABLE leases (
	name TEXT NOT NULL, 
	token TEXT NOT NULL, 
	place TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	started FLOAT NOT NULL, 
	run TEXT NOT NULL, 
	acquired TEXT NOT NULL, 
	expires TEXT NOT NULL, 
	PRIMARY KEY (name)
);
CREATE TABLE attempts (
	run TEXT NOT NULL, 
	flow TEXT NOT NULL, 
	place TEXT NOT NULL, 
	pid INTEGER NOT NULL, 
	started FLOAT NOT NULL, 
	workspace TEXT NOT NULL, 
	began TEXT NOT NULL, 
	ended TEXT, 
	state TEXT NOT NULL, 
	inputs TEXT, 
	result TEXT NOT NULL, 
	told INTEGER NOT NULL, 
	PRIMARY KEY (run)
);
CREATE TABLE notices (
	key TEXT NOT NULL, 
	at TEXT NOT NULL, 
	state TEXT NOT NULL, 
	PRIMARY KEY (key)
);
CREATE TABLE drift_triggers (
	key TEXT NOT NULL, 
	champion INTEGER NOT NULL, 
	at TEXT NOT NULL, 
	run TEXT, 
	PRIMARY KEY (key)
);
