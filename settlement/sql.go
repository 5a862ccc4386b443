package settlement

import "acquirer/store"

// Schema is settlement's tables. A line's run says where it stands: 0 waits to
// be settled, above 0 is the run that settled it.
var Schema = store.Schema{Name: "settlement", Steps: []string{`
create table settlement_state (
	id        BIGINT primary key,
	open_date INTEGER not null,   -- earlier business dates are closed; 0 before the first close
	cursor    BIGINT not null,    -- the journal's facts up to here are booked
	posts     BIGINT not null     -- counts the writers that came by: its row lock keeps closing and booking apart
);
insert into settlement_state (id, open_date, cursor, posts) values (1, 0, 0, 0);
create table settlement_line (
	id           BIGINT primary key, -- the journal's id of a sale; below zero its taking back after it was settled
	effect       INTEGER not null, -- 1 sale, 2 taken back, 3 void, 4 refund, 5 adjustment
	date         INTEGER not null, -- business date it settles with
	txn_date     INTEGER not null, -- business date of the transaction
	merchant     TEXT not null,
	terminal     TEXT not null,
	rrn          TEXT not null,
	issuer       TEXT not null,
	wallet       TEXT not null,
	speed        TEXT not null,
	plan         TEXT not null,
	plan_version INTEGER not null,
	amount       BIGINT not null,
	fee_rate     BIGINT not null,
	fee_fixed    BIGINT not null,
	speed_fee    BIGINT not null,
	issuer_fee   BIGINT not null,
	network_fee  BIGINT not null,
	run          BIGINT not null   -- 0 open, -1 taken back before it was settled, -2 has no price, else settlement_run.id
);
create index settlement_line_open on settlement_line (date) where run = 0; -- by date, so that booking appends to it
create index settlement_line_run on settlement_line (run, merchant) where run > 0;
create table settlement_run (
	id      BIGINT primary key,
	date    INTEGER not null,
	seq     INTEGER not null,      -- 0 the day's close, else the window of early payment as HHMM
	state   INTEGER not null,      -- 1 gathering its lines, 2 netting merchants, 3 closed
	upto    TEXT not null,         -- merchants up to here are netted
	touched BIGINT not null,       -- its row lock keeps two schedulers apart
	started BIGINT not null,
	ended   BIGINT not null,
	unique (date, seq)
);
create table settlement_batch (
	id        BIGINT primary key,
	run       BIGINT not null,
	date      INTEGER not null,
	merchant  TEXT not null,
	speed     TEXT not null,
	lines     BIGINT not null,
	gross     BIGINT not null,
	fee       BIGINT not null,
	speed_fee BIGINT not null,
	carry_in  BIGINT not null,
	carry_out BIGINT not null,
	payout    TEXT not null,       -- reference, empty when nothing is paid
	paid      BIGINT not null,     -- gross - fee - speed_fee + carry_in - carry_out
	reason    TEXT not null,       -- why less, later or nothing is paid
	unique (run, merchant, speed)
);
create table settlement_carry (
	merchant TEXT primary key,
	amount   BIGINT not null
);
create table settlement_payout (
	ref       TEXT primary key,
	batch     BIGINT not null,
	merchant  TEXT not null,
	date      INTEGER not null,    -- business date it settles
	due       INTEGER not null,    -- day it is sent
	speed     TEXT not null,
	amount    BIGINT not null,
	advance   INTEGER not null,    -- 1: paid from own funds before the network paid
	reissue   INTEGER not null,    -- 1: pays what came back (2103), 0: what is payable (2101)
	parent    TEXT not null,       -- the payout it replaces
	child     TEXT not null,       -- the payout that replaced it
	state     INTEGER not null,
	reason    TEXT not null,
	bank_id   TEXT not null,
	account   TEXT not null,       -- masked, as it was sent
	submitted BIGINT not null,
	asked     BIGINT not null,
	finished  BIGINT not null,
	repaid    INTEGER not null,    -- 1: the advance is repaid
	long      INTEGER not null     -- 1: the bank paid it after it was booked as failed
);
create index settlement_payout_open on settlement_payout (due, ref) where state < 5;
create index settlement_payout_replace on settlement_payout (merchant) where state > 5 and child = '';
create index settlement_payout_advance on settlement_payout (date) where advance = 1 and repaid = 0;
create table settlement_receipt (
	ref      TEXT primary key,
	date     INTEGER not null,
	wallet   TEXT not null,
	expected BIGINT not null,
	received BIGINT not null,
	booked   BIGINT not null,
	unique (date, wallet)
);
create table settlement_feed (
	name   TEXT primary key,
	cursor TEXT not null
);
create table settlement_task (
	key      TEXT primary key,
	kind     TEXT not null,
	merchant TEXT not null,
	ref      TEXT not null,
	text     TEXT not null,
	created  BIGINT not null,
	done     BIGINT not null
);
create index settlement_task_open on settlement_task (created) where done = 0`, `
alter table settlement_line add column parent BIGINT not null default 0; -- the sale that this line voids, refunds or adjusts
create index settlement_line_parent on settlement_line (parent) where parent <> 0`, `
create table settlement_expected (
	key    TEXT primary key,
	date   INTEGER not null, -- business date that the network pays it with
	wallet TEXT not null,
	amount BIGINT not null   -- more than the lines of the date's runs come to
);
create index settlement_expected_date on settlement_expected (date, wallet)`, `
create table settlement_item (     -- what changes what a merchant is owed and is no transaction
	key      TEXT primary key,     -- chargeback/CASE, hold/KEY, fee/KEY, ...: what it is
	merchant TEXT not null,
	date     INTEGER not null,     -- business date it was booked on
	amount   BIGINT not null,      -- the merchant is owed so much more, below zero less
	network  BIGINT not null,      -- the network (or wallet) owes us so much more, below zero less
	fee      BIGINT not null,      -- of it, the network's fee
	wallet   TEXT not null,
	txn      BIGINT not null,      -- the journal's id of the transaction it is about; 0 for none
	text     TEXT not null,
	created  BIGINT not null,
	run      BIGINT not null       -- 0 open, -1 taken from a payout directly, else settlement_run.id
);
create index settlement_item_open on settlement_item (date) where run = 0;
create index settlement_item_run on settlement_item (run, merchant) where run > 0;
alter table settlement_batch add column other BIGINT not null default 0; -- its items; paid = gross - fee - speed_fee + other + arrears + carry_in - carry_out
create table settlement_hold (
	key       TEXT primary key,
	merchant  TEXT not null,
	amount    BIGINT not null,
	remains   BIGINT not null,     -- of it, neither released nor used
	reason    TEXT not null,
	state     INTEGER not null,    -- 1 asked for, 2 held, 3 refused, 4 lapsed, 5 released or used up
	asked_by  TEXT not null,
	asked     BIGINT not null,
	lapses    BIGINT not null,     -- when a hold that nobody confirmed ends by itself; 0 never
	sure_by   TEXT not null,       -- who confirmed or refused it
	sure      BIGINT not null,
	free_by   TEXT not null,       -- who asked for its release
	free      BIGINT not null,
	freed_by  TEXT not null,       -- who released it
	freed     BIGINT not null
);
create index settlement_hold_open on settlement_hold (merchant) where state in (1, 2)`, `
create index settlement_batch_merchant on settlement_batch (merchant, date)`, `
alter table settlement_line add column at BIGINT not null default 0;      -- when it was approved, microseconds; 0 before that was kept
alter table settlement_line add column note TEXT not null default '';     -- why it is paid later than its merchant's speed says
create index settlement_line_instant on settlement_line (at) where run = 0 and speed = 'S0';
alter table settlement_carry add column since INTEGER not null default 0; -- business date since which it is below zero
alter table settlement_batch add column arrears BIGINT not null default 0; -- a debt moved there, below zero what was collected of it
alter table settlement_payout add column sold BIGINT not null default 0;  -- S0: when the first of its sales was approved, microseconds
create index settlement_payout_merchant on settlement_payout (merchant, due);
create table settlement_merchant (
	merchant   TEXT primary key,
	first_txn  BIGINT not null,      -- its first sale; 0 before there is one
	first_date INTEGER not null,
	last_date  INTEGER not null,     -- of its newest sale
	streak     INTEGER not null,     -- days in a row with sales, up to last_date
	fast_by    TEXT not null,        -- who enabled early payment
	fast       BIGINT not null
)`, `
create table settlement_earned (   -- business dates that two people have signed
	day    INTEGER primary key,
	state  INTEGER not null,       -- 1 signed, 2 carried, 3 swept or nothing to sweep
	net    BIGINT not null,        -- what was carried
	signed BIGINT not null
);
create index settlement_earned_open on settlement_earned (day) where state < 3;
create table settlement_apart (    -- income of lines that were held when their day was carried
	line    BIGINT primary key,
	day     INTEGER not null,      -- whose close left it out
	rate    BIGINT not null,
	fixed   BIGINT not null,
	issuer  BIGINT not null,
	network BIGINT not null,
	carried INTEGER not null       -- the day whose close took it over; 0 none yet
);
create index settlement_apart_day on settlement_apart (day);
create index settlement_apart_carried on settlement_apart (carried);
create index settlement_line_held on settlement_line (date) where run = -3`, `
create table settlement_watch (    -- merchants that nobody is to be paid early for
	merchant  TEXT not null,
	reason    TEXT not null,
	set_by    TEXT not null,
	since     BIGINT not null,
	until     BIGINT not null,     -- when it ends by itself; 0 never
	asked_by  TEXT not null,       -- who asked that it is lifted
	lifted_by TEXT not null,       -- empty when it ended by itself
	lifted    BIGINT not null,     -- 0 while it stands
	primary key (merchant, since)
);
create unique index settlement_watch_stands on settlement_watch (merchant) where lifted = 0;
create table settlement_conduct (  -- what was settled of a merchant's date, and what was charged back on it
	merchant TEXT not null,
	date     INTEGER not null,
	sales    BIGINT not null,      -- less what was voided
	sold     BIGINT not null,
	back     BIGINT not null,      -- refunds, and chargebacks that were not won
	primary key (merchant, date)
);
insert into settlement_conduct (merchant, date, sales, sold, back)
	select merchant, date, sum(case effect when 1 then 1 when 2 then -1 when 3 then -1 else 0 end), sum(case effect when 4 then 0 else amount end),
		sum(case effect when 4 then -amount else 0 end) from settlement_line where run > 0 group by merchant, date`, `
create table settlement_account (  -- other accounts for merchants, by two people
	merchant TEXT not null,
	sealed   BYTEA,                -- the number while it waits; afterwards the merchant's row has it
	masked   TEXT not null,
	name     TEXT not null,
	bank     TEXT not null,
	class    INTEGER not null,
	was      TEXT not null,        -- the number it replaces, masked
	why      TEXT not null,
	state    TEXT not null,        -- asked for, changed, refused, lapsed
	asked_by TEXT not null,
	asked    BIGINT not null,
	lapses   BIGINT not null,      -- when it ends if nobody confirms it
	done_by  TEXT not null,        -- who confirmed or refused it; empty when it lapsed
	done     BIGINT not null,      -- 0 while it waits
	primary key (merchant, asked)
);
create unique index settlement_account_waits on settlement_account (merchant) where done = 0`, `
create table settlement_long (     -- payouts that the bank paid after they had failed here
	ref      TEXT primary key,
	way      TEXT not null,        -- owed (it still was: the payout is paid); or how it ends: merchant (taken from it), loss (given up), bank (it came back); empty while nobody asked
	asked_by TEXT not null,
	done_by  TEXT not null,
	done     BIGINT not null,      -- 0 while it stands
	returned BIGINT not null,      -- of merchant: what of it was taken of money that had come back (2103)
	back     INTEGER not null      -- 1: the bank brought it back
)`, `
create index settlement_run_open on settlement_run (id) where state < 3;
create index settlement_payout_paid on settlement_payout (finished) where state = 5`, `
create table settlement_decided (  -- payouts of which people say in the bank's place what became of them
	ref      TEXT primary key,
	word     TEXT not null,        -- paid or failed
	asked_by TEXT not null,
	done_by  TEXT not null,
	done     BIGINT not null       -- 0 until a second person said the same
)`, `
create index settlement_line_taken on settlement_line (date) where run = -1`, `
alter table settlement_long add column asked BIGINT not null default 0;    -- when asked_by did, microseconds; 0 before that was kept. way is what was asked for while done = 0
alter table settlement_decided add column asked BIGINT not null default 0;
alter table settlement_watch add column asked BIGINT not null default 0`, `
create index settlement_payout_advanced on settlement_payout (date) where advance = 1`, `
create table settlement_credit (   -- money that the bank's statement says came in
	entry     TEXT primary key,    -- the bank's reference of it: it is booked once
	reference TEXT not null,       -- what the payer wrote
	account   TEXT not null,       -- that it came from, masked
	amount    BIGINT not null,
	booked    INTEGER not null,    -- the bank's day
	taken     BIGINT not null,
	payer     TEXT not null,       -- network or a wallet; empty while nobody knows
	date      INTEGER not null,    -- business date that it pays for; 0 while nobody knows
	state     INTEGER not null,    -- 1 in suspense (2301), 2 a receipt, 3 what an earlier receipt lacked, 4 back to its payer
	suspense  INTEGER not null,    -- 1: it was, or is, in suspense
	why       TEXT not null,       -- it is there
	word      TEXT not null,       -- what somebody said that becomes of it
	asked_by  TEXT not null,
	asked     BIGINT not null,
	done_by   TEXT not null        -- the second person; empty when the rules said it
);
create index settlement_credit_open on settlement_credit (taken) where state = 1;
create index settlement_credit_day on settlement_credit (date, payer);
create index settlement_credit_reference on settlement_credit (reference)`, `
alter table settlement_line add column t1_fee BIGINT not null default 0; -- what its plan takes for T+1, which is its fee for speed when it is paid no earlier`, `
alter table settlement_line add column place BIGINT not null default 0; -- in the order in which lines were booked; 0 before that was kept
alter table settlement_line add column gone BIGINT not null default 0;  -- the place at which it was taken back before it was settled`}}

// Where a line stands.
const (
	lineOpen     = 0
	lineTaken    = -1
	lineUnpriced = -2
	lineHeld     = -3
)

// What a line does.
const (
	effectSale   = 1
	effectTaken  = 2
	effectVoid   = 3
	effectRefund = 4
	effectAdjust = 5
)

const lineColumns = `id, effect, date, txn_date, merchant, terminal, rrn, issuer, wallet, speed, plan, plan_version,
	amount, fee_rate, fee_fixed, speed_fee, issuer_fee, network_fee, run, parent, at, note, t1_fee, place, gone`
