// Package reconcile compares what the house has booked with what others have
// on their books: networks and issuers (clearing files), wallets (bills), the
// bank (statements), terminals (batches).
//
// A file is loaded whole or not at all. What matches is marked; what does not is
// a break. Money of a break is kept out of payouts, what the network owes for
// the day is changed by what its file says, and the difference waits in
// suspense. Most breaks are a matter of time: an item that one side has a day
// late is matched when its file comes, and settles with that day. What has not
// come after some working days waits for two people: one says what becomes of
// it, another confirms. When nothing of a day is left open, two people sign it.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/money"
	"acquirer/settlement"
	"acquirer/store"
)

// Schema is the files, their lines, the breaks, and the days.
var Schema = store.Schema{Name: "reconcile", Steps: []string{`
create table recon_file (
	id      BIGINT primary key,
	source  TEXT not null,      -- an issuer, a network, a wallet, or bank
	date    INTEGER not null,   -- the other side's date
	name    TEXT not null,
	sha     TEXT not null unique,
	lines   BIGINT not null,
	amount  BIGINT not null,
	fees    BIGINT not null,
	net     BIGINT not null,
	state   INTEGER not null,   -- 1 being loaded, 2 loaded, 3 compared
	loaded  BIGINT not null,
	unique (source, date)
);
create table recon_line (
	id          BIGINT primary key,
	file        BIGINT not null,
	n           BIGINT not null,  -- line of the file
	source      TEXT not null,
	date        INTEGER not null,
	kind        TEXT not null,
	rrn         TEXT not null,    -- or a payout's or receipt's reference
	ours        BIGINT not null,  -- the line of settlement that it is or would be; 0 for none
	terminal    TEXT not null,
	merchant    TEXT not null,
	amount      BIGINT not null,
	issuer_fee  BIGINT not null,
	network_fee BIGINT not null,
	brand_fee   BIGINT not null,
	state       INTEGER not null, -- 1 to be compared, 2 matched, 3 a break
	unique (file, n)
);
create index recon_line_ours on recon_line (ours) where ours <> 0;
create index recon_line_open on recon_line (file, n) where state = 1;
create index recon_line_rrn on recon_line (rrn) where ours = 0;
create table recon_break (
	key       TEXT primary key,   -- what it is: kind, source, number
	id        BIGINT not null unique,
	kind      TEXT not null,
	source    TEXT not null,
	date      INTEGER not null,   -- the day whose comparison found it
	rrn       TEXT not null,
	line      BIGINT not null,    -- of settlement; 0 for none
	their     BIGINT not null,    -- recon_line; 0 for none
	merchant  TEXT not null,
	terminal  TEXT not null,
	ours      BIGINT not null,
	theirs    BIGINT not null,
	our_fee   BIGINT not null,
	their_fee BIGINT not null,
	detail    TEXT not null,
	held      INTEGER not null,   -- 1: its line is out of payouts
	state     INTEGER not null,   -- 1 waiting for a later file, 2 open for people, 3 resolved
	due       INTEGER not null,   -- business date after which it waits no more
	action    TEXT not null,      -- what becomes, or became, of it
	note      TEXT not null,
	asked_by  TEXT not null,
	done_by   TEXT not null,      -- the second person, or the rule
	found     BIGINT not null,
	done      BIGINT not null
);
create index recon_break_open on recon_break (state, date) where state < 3;
create index recon_break_day on recon_break (date);
create index recon_break_line on recon_break (line) where line <> 0;
create table recon_day (
	date     INTEGER primary key,
	compared BIGINT not null,     -- when, the last time
	ours     BIGINT not null,     -- lines of ours that were looked at
	theirs   BIGINT not null,
	matched  BIGINT not null,
	maker    TEXT not null,
	made     BIGINT not null,
	checker  TEXT not null,
	checked  BIGINT not null
)`, `
insert into settlement_earned (day, state, net, signed) select date, 1, 0, checked from recon_day where checked > 0`, `
alter table recon_line add column orders BIGINT not null default 0 -- of a bank's sum over a message of ours: how many`, `
create table recon_file2 (
	id      BIGINT primary key,
	source  TEXT not null,      -- an issuer, a network, a wallet, or bank
	date    INTEGER not null,   -- the other side's date
	part    TEXT not null,      -- which of the day's files, like INN26112001ZM_898110054110001; empty when the file is the day
	name    TEXT not null,
	sha     TEXT not null unique,
	lines   BIGINT not null,
	amount  BIGINT not null,
	fees    BIGINT not null,
	net     BIGINT not null,
	state   INTEGER not null,   -- 1 being loaded, 2 loaded, 3 compared
	loaded  BIGINT not null,
	unique (source, date, part)
);
insert into recon_file2 (id, source, date, part, name, sha, lines, amount, fees, net, state, loaded)
	select id, source, date, case when name like 'INN%ZM%' then name else '' end, name, sha, lines, amount, fees, net, state, loaded from recon_file;
drop table recon_file;
alter table recon_file2 rename to recon_file;
create table recon_complete (
	source TEXT not null,
	date   INTEGER not null,
	who    TEXT not null,       -- said that the source has no more files of the date
	said   BIGINT not null,
	primary key (source, date)
)`, `
alter table recon_break add column asked BIGINT not null default 0 -- when asked_by did, microseconds; 0 before that was kept`}}

// Kind says how two sides differ.
type Kind string

// The kinds. Long is money that the other side has booked and we have not
// (长款), Short the reverse (短款).
const (
	Long          Kind = "long"
	Short         Kind = "short"
	Amount        Kind = "amount"
	Fee           Kind = "fee"
	LateReversal  Kind = "late_reversal" // reversed here, and the other side had it as a sale when it wrote its file; or the other way round
	Duplicate     Kind = "duplicate"     // the other side has the number twice
	PayoutLong    Kind = "payout_long"   // the bank paid what we did not order, or twice, or another amount
	PayoutShort   Kind = "payout_short"  // we booked it as paid, and no statement has it
	ReceiptLong   Kind = "receipt_long"  // more came than was expected, or what nobody booked
	ReceiptShort  Kind = "receipt_short" // less came than was expected, or no statement has it
	TerminalBatch Kind = "terminal"      // the terminal's batch says otherwise
)

// Kinds lists them all.
var Kinds = []Kind{Long, Short, Amount, Fee, LateReversal, Duplicate, PayoutLong, PayoutShort, ReceiptLong, ReceiptShort, TerminalBatch}

// State says where a break stands.
type State int

// The states of a break.
const (
	Waiting  State = iota + 1 // for a later file
	Open                      // for two people
	Resolved                  // by a rule or by people
)

var stateNames = [...]string{"none", "waiting", "open", "resolved"}

func (s State) String() string {
	if s < 0 || int(s) >= len(stateNames) {
		return fmt.Sprintf("state %d", int(s))
	}
	return stateNames[s]
}

// MarshalText writes String; UnmarshalText reads it.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *State) UnmarshalText(b []byte) error {
	for i, name := range stateNames {
		if name == string(b) {
			*s = State(i)
			return nil
		}
	}
	return fmt.Errorf("reconcile: %q is no state of a break", b)
}

// Action is what becomes of a break.
type Action string

// The actions. Which of them a break can have depends on its kind (Suggested).
const (
	ToMerchant Action = "merchant"  // the merchant gets it, or bears it
	ToPayer    Action = "payer"     // given back to the payer (贷记调整)
	ToLoss     Action = "write_off" // the house bears it
	Accept     Action = "accept"    // known; nothing is to be booked
	ByFile     Action = "file"      // a later file brought it; a rule's alone
)

// Suggested lists what can become of a break, the usual first. Nothing goes to a
// merchant that nobody names.
func (b *Break) Suggested() []Action {
	return slices.DeleteFunc(b.actions(), func(a Action) bool { return a == ToMerchant && b.Merchant == "" })
}

func (b *Break) actions() []Action {
	switch b.Kind {
	case Long, Duplicate:
		return []Action{ToPayer, ToMerchant}
	case LateReversal:
		if b.Theirs < 0 {
			return []Action{ToMerchant, ToLoss}
		}
		return []Action{ToPayer, ToMerchant}
	case Short:
		return []Action{ToLoss, ToMerchant}
	case Amount:
		if b.net() > 0 {
			return []Action{ToPayer, ToMerchant}
		}
		return []Action{ToMerchant, ToLoss}
	}
	return []Action{Accept}
}

// Break is a difference between two sides.
type Break struct {
	ID       int64         `json:"id"`
	Key      string        `json:"key"`
	Kind     Kind          `json:"kind"`
	Source   string        `json:"source"`
	Date     calendar.Date `json:"date"`
	RRN      string        `json:"rrn"`
	Merchant string        `json:"merchant,omitempty"`
	Terminal string        `json:"terminal,omitempty"`
	Ours     money.Amount  `json:"ours"`
	Theirs   money.Amount  `json:"theirs"`
	OurFee   money.Amount  `json:"our_fee,omitempty"`
	TheirFee money.Amount  `json:"their_fee,omitempty"`
	Detail   string        `json:"detail"`
	Held     bool          `json:"held"` // its money is out of payouts
	State    State         `json:"state"`
	Due      calendar.Date `json:"due,omitzero"` // waits until then
	Action   Action        `json:"action,omitempty"`
	Note     string        `json:"note,omitempty"`
	AskedBy  string        `json:"asked_by,omitempty"`
	Asked    time.Time     `json:"asked,omitzero"`
	DoneBy   string        `json:"done_by,omitempty"`
	Found    time.Time     `json:"found"`
	Done     time.Time     `json:"done,omitzero"`
	Instead  string        `json:"instead,omitempty"` // what Action replaced and who asked for that, as Resolve says it

	line, their int64
}

// net is how much more the other side settles than we booked.
func (b *Break) net() money.Amount { return b.Theirs - b.TheirFee - b.Ours + b.OurFee }

const breakColumns = `id, key, kind, source, date, rrn, line, their, merchant, terminal, ours, theirs, our_fee, their_fee, detail, held, state, due, action, note, asked_by, asked, done_by, found, done`

func scanBreak(r *store.Rows, b *Break) error {
	var asked, found, done int64
	err := r.Scan(&b.ID, &b.Key, &b.Kind, &b.Source, &b.Date, &b.RRN, &b.line, &b.their, &b.Merchant, &b.Terminal, &b.Ours, &b.Theirs, &b.OurFee, &b.TheirFee,
		&b.Detail, &b.Held, &b.State, &b.Due, &b.Action, &b.Note, &b.AskedBy, &asked, &b.DoneBy, &found, &done)
	b.Asked, b.Found, b.Done = store.Instant(asked), time.UnixMicro(found), store.Instant(done)
	return err
}

// Source is one whose file of a day is compared with ours.
type Source struct {
	Name   string
	Wallet bool // else an issuer or a network of cards
}

// Bank is the source of statements.
const Bank = "bank"

// Seen is what the journal has of a number that no line of settlement has.
type Seen string

// What the journal may have.
const (
	Nothing     Seen = "nothing"
	WasDeclined Seen = "declined"
	WasReversed Seen = "reversed"
	IsUndecided Seen = "undecided"
	WasApproved Seen = "approved" // and moves no money, or is not booked yet
)

// Terminal is what a terminal's batch says otherwise (journal.Uploaded).
type Terminal struct {
	ID       int64
	Date     calendar.Date
	Terminal string
	Merchant string
	RRN      string
	Amount   money.Amount // as the terminal has it
	What     string
}

// Config is what an Engine stands on.
type Config struct {
	DB      *store.DB
	Books   *settlement.Engine
	Sources []Source // whose files every business date needs
	// Acquirer is our institution code (DE 32): a file for another one is refused.
	// So is a statement of another account of the bank than Account. Empty ones
	// are not looked at.
	Acquirer, Account string
	// Journal says what became of a number that has no line. Nil knows nothing.
	Journal func(ctx context.Context, rrn string) (Seen, error)
	// Began is the house's first business date, 0 before it has one: files of
	// earlier ones are refused. Nil refuses none.
	Began func(ctx context.Context) (calendar.Date, error)
	// Terminals lists what terminals' batches say otherwise and nobody has
	// resolved. Nil lists nothing.
	Terminals func(ctx context.Context) ([]Terminal, error)
	// ResolveTerminal ends one of them. Nil with Terminals.
	ResolveTerminal func(ctx context.Context, id int64, at time.Time) error
	// ID is the transaction that a reference number names; by default
	// journal.IDOf.
	ID func(rrn string) (int64, bool)

	Age       int          // working days that an unmatched item waits for a later file; default 3
	FeeLimit  money.Amount // a difference of fees up to this is accepted by rule; default 0.02
	StopAbove money.Amount // a day whose open breaks come to more is not settled before it is signed; 0 never stops
}

// Engine compares. Its methods may be called from any goroutine and on any
// number of nodes.
type Engine struct {
	cfg Config
	db  *store.DB
}

// New checks the configuration and fills in its defaults.
func New(cfg Config) (*Engine, error) {
	if cfg.DB == nil || cfg.Books == nil || cfg.ID == nil {
		return nil, errors.New("reconcile: needs a store, the books and a way to read reference numbers")
	}
	seen := map[string]bool{Bank: true}
	for _, s := range cfg.Sources {
		if s.Name == "" || seen[s.Name] {
			return nil, fmt.Errorf("reconcile: source %q is there twice, empty, or called %s", s.Name, Bank)
		}
		seen[s.Name] = true
	}
	if cfg.Age == 0 {
		cfg.Age = 3
	}
	if cfg.FeeLimit == 0 {
		cfg.FeeLimit = 2
	}
	return &Engine{cfg: cfg, db: cfg.DB}, nil
}

// wallet is the sub-account of a source: its name for a wallet, "" for cards.
func (e *Engine) wallet(source string) string {
	for _, s := range e.cfg.Sources {
		if s.Name == source && s.Wallet {
			return s.Name
		}
	}
	return ""
}

// ErrIncomplete says that files of a date have not come.
var ErrIncomplete = errors.New("reconcile: files are missing")

// Gate says why a business date may not be settled yet: its files have not
// come or were not compared, or its breaks come to more than StopAbove and
// nobody has signed it. It is settlement's Config.Gate.
func (e *Engine) Gate(ctx context.Context, date calendar.Date) error {
	var missing []string
	var compared, checked int64
	var open money.Amount
	var taken []theirs
	err := e.db.Read(ctx, func(tx store.Tx) (err error) {
		if missing, err = e.missing(tx, date); err != nil {
			return err
		}
		if err := tx.QueryRow("select compared, checked from recon_day where date = $1", date).Scan(&compared, &checked); err != nil && !errors.Is(err, store.ErrNotFound) {
			return err
		}
		if taken, err = e.takenSince(tx, date, date); err != nil {
			return err
		}
		return tx.QueryRow("select cast(coalesce(sum(abs(theirs - their_fee - ours + our_fee)), 0) as BIGINT) from recon_break where date = $1 and state < 3", date).Scan(&open)
	})
	switch {
	case err != nil:
		return fmt.Errorf("reconcile: looking at %s: %w", date, err)
	case len(missing) > 0:
		return fmt.Errorf("%w: of %s for %s", ErrIncomplete, strings.Join(missing, ", "), date)
	case compared == 0:
		return fmt.Errorf("%w: those of %s have come and were not compared yet", ErrIncomplete, date)
	case len(taken) > 0:
		return fmt.Errorf("%w: %d sales of %s were reversed here after they were matched: it is to be compared again", ErrIncomplete, len(taken), date)
	case e.cfg.StopAbove > 0 && open > e.cfg.StopAbove && checked == 0:
		return fmt.Errorf("reconcile: the open breaks of %s come to %s, more than %s: resolve them, or sign the day off", date, open, e.cfg.StopAbove)
	}
	return nil
}
