package settlement

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"acquirer/calendar"
	"acquirer/fault"
	"acquirer/money"
	"acquirer/settlement/bankfile"
	"acquirer/store"
)

// FileSchema is the tables of a FileRail: orders that stand in our files, and
// what the bank's files said of them.
var FileSchema = store.Schema{Name: "bankfile", Steps: []string{`
create table bankfile_order (
	ref      TEXT primary key,
	message  TEXT not null,     -- that it stands in; empty while it waits for one
	amount   BIGINT not null,
	merchant TEXT not null,
	name     TEXT not null,
	account  BYTEA not null,    -- sealed: a file is written again after a crash, byte for byte
	bank     TEXT not null
);
create index bankfile_order_message on bankfile_order (message, ref);
create table bankfile_message (
	id      TEXT primary key,
	created BIGINT not null,
	execute INTEGER not null,   -- day on which the bank is to pay
	orders  BIGINT not null,
	sum     BIGINT not null,
	written INTEGER not null    -- 1: its file stands in the outbox, or stood there
);
create index bankfile_message_unwritten on bankfile_message (id) where written = 0;
create table bankfile_inbox (
	message TEXT primary key,   -- the bank takes ours once, and we take the bank's once
	sha256  TEXT not null,
	file    TEXT not null,
	done    BIGINT not null,    -- order in which files were taken in; 0 while one is being loaded
	loaded  BIGINT not null
);
create index bankfile_inbox_done on bankfile_inbox (done) where done > 0;
create table bankfile_change (
	message TEXT not null,
	seq     BIGINT not null,
	ref     TEXT not null,
	status  TEXT not null,
	amount  BIGINT not null,
	bank_id TEXT not null,
	reason  TEXT not null,
	primary key (message, seq)
);
create index bankfile_change_ref on bankfile_change (ref);
create table bankfile_state (
	id      BIGINT primary key,
	touched BIGINT not null     -- its row lock keeps two nodes apart
);
insert into bankfile_state (id, touched) values (1, 0)`, `
create table bankfile_credit (      -- what the bank's files say that others paid in
	message   TEXT not null,
	seq       BIGINT not null,
	entry     TEXT not null,
	reference TEXT not null,
	account   BYTEA not null,       -- that it came from, sealed; empty where the file does not say
	amount    BIGINT not null,
	booked    INTEGER not null,
	primary key (message, seq)
)`}}

// FileConfig is what a FileRail stands on.
type FileConfig struct {
	DB  *store.DB
	Dir string // with outbox, inbox, accepted and refused below it
	CSV bool   // orders as CSV, not pain.001
	// Debtor is the account that is paid from.
	Debtor bankfile.Debtor
	// Seal and Unseal keep account numbers between two writings of a file.
	Seal   func(ctx context.Context, number string) ([]byte, error)
	Unseal func(ctx context.Context, sealed []byte) (string, error)
	// Credits says that what others paid in is taken from statements (FileRail.Credits);
	// one whose entry has no reference of the bank is refused with its file then.
	Credits bool
	// Refused is told of every file of the bank that was not taken in.
	Refused func(file string, why error)
}

// FileRail carries payouts to a bank in files. An order waits until Flush, which
// writes all that wait as one message into the outbox; a message is written again
// byte for byte when nobody knows whether it was. What the bank puts into the
// inbox is taken in whole and moved to accepted, or moved to refused with the
// reason beside it.
type FileRail struct {
	cfg FileConfig
	db  *store.DB
}

const (
	outbox   = "outbox"
	inbox    = "inbox"
	accepted = "accepted"
	refused  = "refused"
)

// NewFileRail makes the folders that are not there.
func NewFileRail(cfg FileConfig) (*FileRail, error) {
	for _, d := range [...]string{outbox, inbox, accepted, refused} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("settlement: the bank's folder: %w", err)
		}
	}
	trial := bankfile.Order{Reference: "trial", Amount: 1, Name: cfg.Debtor.Name, Account: cfg.Debtor.Account, Bank: cfg.Debtor.Bank}
	if trial.Check() != nil {
		return nil, errors.New("settlement: files for the bank need the account that is paid from: its holder, its number of 8 to 34 letters and digits, its bank")
	}
	return &FileRail{cfg: cfg, db: cfg.DB}, nil
}

// Close has nothing to close.
func (r *FileRail) Close() {}

// Send keeps an order for the next file, once per reference.
func (r *FileRail) Send(ctx context.Context, i Instruction) (Answer, error) {
	o := bankfile.Order{Reference: i.Reference, Merchant: i.Merchant, Amount: i.Amount, Name: i.Name, Account: i.Account.Reveal(), Bank: i.Bank}
	if err := o.Check(); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrUnfit, err)
	}
	sealed, err := r.cfg.Seal(ctx, o.Account)
	if err != nil {
		return Answer{}, fmt.Errorf("%w: sealing the account: %w", ErrNotSent, err)
	}
	fault.Hit("bankfile.order.before")
	err = r.db.Write(ctx, func(tx store.Tx) error {
		_, err := tx.Exec("insert into bankfile_order (ref, message, amount, merchant, name, account, bank) values ($1, '', $2, $3, $4, $5, $6) on conflict (ref) do nothing",
			o.Reference, o.Amount, o.Merchant, o.Name, sealed, o.Bank)
		return err
	})
	fault.Hit("bankfile.order.after")
	if err != nil {
		return Answer{}, fmt.Errorf("settlement: keeping payout %s for the bank's file: %w", i.Reference, err)
	}
	return Answer{Reference: i.Reference, Status: Processing, Amount: i.Amount, Reason: "waits for the next file"}, nil
}

// Flush writes what waits into the outbox as one message, and messages whose
// writing was interrupted.
func (r *FileRail) Flush(ctx context.Context, now time.Time) error {
	if err := r.sweep(); err != nil {
		return fmt.Errorf("settlement: files whose writing was interrupted: %w", err)
	}
	if err := r.gather(ctx, now); err != nil {
		return fmt.Errorf("settlement: gathering the orders of a file: %w", err)
	}
	var messages []bankfile.Batch
	err := r.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query("select id, created, execute, orders, sum from bankfile_message where written = 0 order by id")
		messages, err = store.All(rows, err, func(rows *store.Rows, b *bankfile.Batch) error {
			var created int64
			b.Debtor = r.cfg.Debtor
			err := rows.Scan(&b.MessageID, &created, &b.Execute, &b.Count, &b.Sum)
			b.Created = time.UnixMicro(created)
			return err
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("settlement: looking for files to write: %w", err)
	}
	for i := range messages {
		b := &messages[i]
		if err := r.write(ctx, b); err != nil {
			return fmt.Errorf("settlement: writing message %s: %w", b.MessageID, err)
		}
		fault.Hit("bankfile.written.before")
		err := r.db.Write(ctx, func(tx store.Tx) error {
			_, err := tx.Exec("update bankfile_message set written = 1 where id = $1", b.MessageID)
			return err
		})
		fault.Hit("bankfile.written.after")
		if err != nil {
			return fmt.Errorf("settlement: message %s is in the outbox: %w", b.MessageID, err)
		}
	}
	return nil
}

// gather makes a message of all orders that wait.
func (r *FileRail) gather(ctx context.Context, now time.Time) error {
	fault.Hit("bankfile.gather.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		if err := r.lock(tx); err != nil {
			return err
		}
		var count, messages int64
		var sum money.Amount
		if err := tx.QueryRow("select count(*), cast(coalesce(sum(amount), 0) as BIGINT) from bankfile_order where message = ''").Scan(&count, &sum); err != nil || count == 0 {
			return err
		}
		day := calendar.DateOf(now)
		prefix := fmt.Sprintf("PO%08d-", int32(day))
		if err := tx.QueryRow("select count(*) from bankfile_message where id > $1 and id < $2", prefix, prefix+"~").Scan(&messages); err != nil {
			return err
		}
		id := fmt.Sprintf("%s%06d", prefix, messages+1)
		if _, err := tx.Exec("insert into bankfile_message (id, created, execute, orders, sum, written) values ($1, $2, $3, $4, $5, 0)", id, now.UnixMicro(), day, count, sum); err != nil {
			return err
		}
		_, err := tx.Exec("update bankfile_order set message = $1 where message = ''", id)
		return err
	})
	fault.Hit("bankfile.gather.after")
	return err
}

func (r *FileRail) lock(tx store.Tx) error {
	_, err := tx.Exec("update bankfile_state set touched = touched + 1 where id = 1")
	return err
}

// write puts a message's file into the outbox under its name, whole or not at
// all, readable by its owner alone.
func (r *FileRail) write(ctx context.Context, b *bankfile.Batch) (err error) {
	write, name := bankfile.WritePain001, b.MessageID+".xml"
	if r.cfg.CSV {
		write, name = bankfile.WriteCSV, b.MessageID+".csv"
	}
	dir := filepath.Join(r.cfg.Dir, outbox)
	f, err := os.CreateTemp(dir, unwritten+"*") // 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f, b, r.orders(ctx, b.MessageID)), f.Sync(), f.Close()); err != nil {
		return err
	}
	fault.Hit("bankfile.write.before")
	if err := os.Rename(f.Name(), filepath.Join(dir, name)); err != nil {
		return err
	}
	err = syncFolder(dir)
	fault.Hit("bankfile.write.after")
	return err
}

const unwritten = ".writing-"

// sweep removes what a process that died left half written: account numbers
// stand in it. One that is younger than an hour may be another node's.
func (r *FileRail) sweep() error {
	left, err := filepath.Glob(filepath.Join(r.cfg.Dir, outbox, unwritten+"*"))
	for _, path := range left {
		info, e := os.Stat(path)
		if e == nil && time.Since(info.ModTime()) > time.Hour {
			e = os.Remove(path)
		}
		if !errors.Is(e, os.ErrNotExist) { // its writer was done meanwhile
			err = errors.Join(err, e)
		}
	}
	return err
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// page is how many rows are read or written at once.
const page = 500

// orders yields a message's orders by reference.
func (r *FileRail) orders(ctx context.Context, message string) iter.Seq2[bankfile.Order, error] {
	return func(yield func(bankfile.Order, error) bool) {
		after := ""
		for {
			var some []bankfile.Order
			var sealed [][]byte
			err := r.db.Read(ctx, func(tx store.Tx) error {
				sealed = nil
				rows, err := tx.Query("select ref, merchant, amount, name, account, bank from bankfile_order where message = $1 and ref > $2 order by ref limit $3", message, after, page)
				some, err = store.All(rows, err, func(rows *store.Rows, o *bankfile.Order) error {
					var account []byte
					err := rows.Scan(&o.Reference, &o.Merchant, &o.Amount, &o.Name, &account, &o.Bank)
					sealed = append(sealed, account)
					return err
				})
				return err
			})
			for i := range some {
				if err == nil {
					some[i].Account, err = r.cfg.Unseal(ctx, sealed[i])
				}
				if err != nil {
					break
				}
				if !yield(some[i], nil) {
					return
				}
			}
			if err != nil {
				yield(bankfile.Order{}, err)
				return
			}
			if len(some) < page {
				return
			}
			after = some[len(some)-1].Reference
		}
	}
}

// Query tells what the bank's files said last of a reference.
func (r *FileRail) Query(ctx context.Context, reference string) (Answer, error) {
	a := Answer{Reference: reference, Status: NotFound}
	err := r.db.Read(ctx, func(tx store.Tx) error {
		err := tx.QueryRow(`select c.status, c.amount, c.bank_id, c.reason from bankfile_change c join bankfile_inbox i on i.message = c.message
			where c.ref = $1 and i.done > 0 order by i.done desc, c.seq desc limit 1`, reference).Scan(&a.Status, &a.Amount, &a.BankID, &a.Reason)
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		var message string
		err = tx.QueryRow("select message, amount from bankfile_order where ref = $1", reference).Scan(&message, &a.Amount)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		a.Status, a.Reason = Processing, "in message "+message
		if message == "" {
			a.Reason = "waits for the next file"
		}
		return err
	})
	if err != nil {
		return Answer{}, fmt.Errorf("settlement: what the bank's files say of payout %s: %w", reference, err)
	}
	return a, nil
}

// Changes takes in what lies in the inbox and lists what the bank's files said
// since a cursor, in the order in which they were taken in.
func (r *FileRail) Changes(ctx context.Context, after string) ([]Answer, string, error) {
	if err := r.takeIn(ctx); err != nil {
		return nil, after, fmt.Errorf("settlement: reading the bank's files: %w", err)
	}
	var done, seq int64
	if after != "" {
		if _, err := fmt.Sscanf(after, "%d/%d", &done, &seq); err != nil {
			return nil, after, fmt.Errorf("settlement: %.40q is no cursor of the bank's files", after)
		}
	}
	var answers []Answer
	err := r.db.Read(ctx, func(tx store.Tx) error {
		rows, err := tx.Query(`select i.done, c.seq, c.ref, c.status, c.amount, c.bank_id, c.reason from bankfile_inbox i join bankfile_change c on c.message = i.message
			where i.done > 0 and (i.done > $1 or i.done = $1 and c.seq > $2) order by i.done, c.seq limit $3`, done, seq, page)
		answers, err = store.All(rows, err, func(rows *store.Rows, a *Answer) error {
			return rows.Scan(&done, &seq, &a.Reference, &a.Status, &a.Amount, &a.BankID, &a.Reason)
		})
		return err
	})
	if err != nil {
		return nil, after, fmt.Errorf("settlement: what the bank's files said: %w", err)
	}
	if len(answers) == 0 {
		return nil, after, nil
	}
	return answers, fmt.Sprintf("%d/%d", done, seq), nil
}

// sealed is a payer's account as it may stand in a row.
func (r *FileRail) sealed(ctx context.Context, account Number) ([]byte, error) {
	if account.Reveal() == "" {
		return []byte{}, nil
	}
	sealed, err := r.cfg.Seal(ctx, account.Reveal())
	if err != nil {
		return nil, fmt.Errorf("sealing the account of a payer: %w", err)
	}
	return sealed, nil
}

// Credits lists what the bank's files said that others paid in, in the order in
// which they were taken in; Changes takes them in.
func (r *FileRail) Credits(ctx context.Context, after string) ([]Credit, string, error) {
	var done, seq int64
	if after != "" {
		if _, err := fmt.Sscanf(after, "%d/%d", &done, &seq); err != nil {
			return nil, after, fmt.Errorf("settlement: %.40q is no cursor of the credits in the bank's files", after)
		}
	}
	var credits []Credit
	var sealed [][]byte
	err := r.db.Read(ctx, func(tx store.Tx) error {
		sealed = nil
		rows, err := tx.Query(`select i.done, c.seq, c.entry, c.reference, c.account, c.amount, c.booked from bankfile_inbox i join bankfile_credit c on c.message = i.message
			where i.done > 0 and (i.done > $1 or i.done = $1 and c.seq > $2) order by i.done, c.seq limit $3`, done, seq, page)
		credits, err = store.All(rows, err, func(rows *store.Rows, c *Credit) error {
			var account []byte
			err := rows.Scan(&done, &seq, &c.Entry, &c.Reference, &account, &c.Amount, &c.Booked)
			sealed = append(sealed, account)
			return err
		})
		return err
	})
	for i := range credits {
		if err == nil && len(sealed[i]) > 0 {
			var account string
			account, err = r.cfg.Unseal(ctx, sealed[i])
			credits[i].Account = NewNumber(account)
		}
	}
	if err != nil {
		return nil, after, fmt.Errorf("settlement: what the bank's files say that came in: %w", err)
	}
	if len(credits) == 0 {
		return nil, after, nil
	}
	return credits, fmt.Sprintf("%d/%d", done, seq), nil
}

// takeIn reads every file of the inbox, statuses first, then by name. One that is
// refused does not keep the others.
func (r *FileRail) takeIn(ctx context.Context) error {
	dir := filepath.Join(r.cfg.Dir, inbox)
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var names []string
	for _, f := range files {
		name := f.Name()
		if !f.Type().IsRegular() || strings.HasPrefix(name, ".") || strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".part") {
			continue // still being written
		}
		names = append(names, name)
	}
	if err := statusesFirst(dir, names); err != nil {
		return err
	}
	for _, name := range names {
		path := filepath.Join(dir, name)
		err := r.load(ctx, path, name)
		var no *refusal
		switch {
		case err == nil:
			fault.Hit("bankfile.accept.before")
			err = os.Rename(path, r.aside(accepted, name))
			fault.Hit("bankfile.accept.after")
		case errors.As(err, &no):
			err = r.refuse(ctx, path, name, no)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) { // another node has moved it away
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// aside is where a file goes that was read: no older one of its name is lost.
func (r *FileRail) aside(folder, name string) string {
	path := filepath.Join(r.cfg.Dir, folder, name)
	for n := 2; ; n++ {
		if _, err := os.Lstat(path); err != nil {
			return path
		}
		path = filepath.Join(r.cfg.Dir, folder, fmt.Sprintf("%s.%d", name, n))
	}
}

// refusal is why a file is not taken in: the bank's fault, not ours.
type refusal struct {
	err error
	do  string // what a person does about it; askAgain when empty
}

const askAgain = "ask the bank for a right one under another name"

func (r *refusal) Error() string { return r.err.Error() + "; " + cmp.Or(r.do, askAgain) }

// refuse moves a file away with the reason beside it, and leaves it to a person.
func (r *FileRail) refuse(ctx context.Context, path, name string, why *refusal) error {
	to := r.aside(refused, name)
	if err := os.WriteFile(to+".why", []byte(why.Error()+"\n"), 0o600); err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	fault.Hit("bankfile.refuse.before")
	// One task for one file, also when it could not be moved away behind it.
	err = r.db.Write(ctx, func(tx store.Tx) error {
		return addTask(tx, Task{Key: fmt.Sprintf("bankfile/%.100s/%d", name, info.ModTime().UnixMicro()), Kind: "bank_file", Ref: fmt.Sprintf("%.64s", name), Created: time.Now(),
			Text: fmt.Sprintf("the bank's file %.100q was refused whole: %s; %s", name, shortened(why.err), cmp.Or(why.do, askAgain))})
	})
	fault.Hit("bankfile.refuse.after")
	if err != nil {
		return err
	}
	fault.Hit("bankfile.set_aside.before")
	if err := os.Rename(path, to); err != nil {
		return err
	}
	fault.Hit("bankfile.set_aside.after")
	if r.cfg.Refused != nil {
		r.cfg.Refused(name, why)
	}
	return nil
}

// load takes one file in: it is read once to see that all of it is right, then
// once more into the tables, and counts only when its last row is there.
func (r *FileRail) load(ctx context.Context, path, name string) error {
	digest, err := digestOf(path)
	if err != nil {
		return err
	}
	var head bankHead
	err = r.readFile(ctx, path, func(h bankHead, _ []Answer, _ []Credit) error {
		head = h
		return nil
	})
	if err != nil {
		return err
	}
	known, err := r.known(ctx, head.message, digest, name)
	if err != nil || known {
		return err
	}
	if err := r.begin(ctx, head.message, digest, name); err != nil {
		return err
	}
	seq, credited := int64(0), int64(0)
	err = r.readFile(ctx, path, func(_ bankHead, some []Answer, credits []Credit) (err error) {
		sealed := make([][]byte, len(credits))
		for i := range credits {
			if sealed[i], err = r.sealed(ctx, credits[i].Account); err != nil {
				return err
			}
		}
		fault.Hit("bankfile.lines.before")
		err = r.db.Write(ctx, func(tx store.Tx) error {
			for i, a := range some {
				if _, err := tx.Exec("insert into bankfile_change (message, seq, ref, status, amount, bank_id, reason) values ($1, $2, $3, $4, $5, $6, $7) on conflict (message, seq) do nothing",
					head.message, seq+int64(i)+1, a.Reference, a.Status, a.Amount, a.BankID, a.Reason); err != nil {
					return err
				}
			}
			for i, c := range credits {
				if _, err := tx.Exec("insert into bankfile_credit (message, seq, entry, reference, account, amount, booked) values ($1, $2, $3, $4, $5, $6, $7) on conflict (message, seq) do nothing",
					head.message, credited+int64(i)+1, c.Entry, c.Reference, sealed[i], c.Amount, c.Booked); err != nil {
					return err
				}
			}
			return nil
		})
		fault.Hit("bankfile.lines.after")
		seq, credited = seq+int64(len(some)), credited+int64(len(credits))
		return err
	})
	if err != nil {
		return err
	}
	fault.Hit("bankfile.load.before")
	err = r.db.Write(ctx, func(tx store.Tx) error {
		if err := r.lock(tx); err != nil {
			return err
		}
		var last int64
		if err := tx.QueryRow("select coalesce(max(done), 0) from bankfile_inbox where done > 0").Scan(&last); err != nil {
			return err
		}
		_, err := tx.Exec("update bankfile_inbox set done = $2, loaded = $3 where message = $1 and done = 0", head.message, last+1, time.Now().UnixMicro())
		return err
	})
	fault.Hit("bankfile.load.after")
	return err
}

// begin opens the loading of a file. What an interrupted loading of another
// content left behind goes.
func (r *FileRail) begin(ctx context.Context, message, digest, name string) error {
	fault.Hit("bankfile.begin.before")
	err := r.db.Write(ctx, func(tx store.Tx) error {
		for _, table := range []string{"bankfile_change", "bankfile_credit"} {
			if _, err := tx.Exec("delete from "+table+" where message = $1 and exists (select 1 from bankfile_inbox where message = $1 and done = 0 and sha256 <> $2)", message, digest); err != nil {
				return err
			}
		}
		_, err := tx.Exec(`insert into bankfile_inbox (message, sha256, file, done, loaded) values ($1, $2, $3, 0, 0)
			on conflict (message) do update set sha256 = excluded.sha256, file = excluded.file where bankfile_inbox.done = 0`, message, digest, name)
		return err
	})
	fault.Hit("bankfile.begin.after")
	return err
}

// known reports whether a file was taken in before, under this name and with
// this content: then it only was not moved away. Anything else with its message
// or its content is refused.
func (r *FileRail) known(ctx context.Context, message, digest, name string) (taken bool, err error) {
	err = r.db.Read(ctx, func(tx store.Tx) error {
		taken = false
		rows, err := tx.Query("select message, sha256, file, done from bankfile_inbox where message = $1 or sha256 = $2", message, digest)
		_, err = store.All(rows, err, func(rows *store.Rows, _ *struct{}) error {
			var m, d, f string
			var done int64
			if err := rows.Scan(&m, &d, &f, &done); err != nil {
				return err
			}
			switch {
			case done == 0: // its loading was interrupted
				return nil
			case m != message:
				return &refusal{err: fmt.Errorf("the same content was taken in as message %s", m)}
			case d != digest:
				return &refusal{err: fmt.Errorf("message %s was taken in before with another content, as %s", message, f)}
			case f != name:
				return &refusal{fmt.Errorf("message %s was taken in before, as %s", message, f), "it is the same file: nothing needs to be done"}
			}
			taken = true
			return nil
		})
		return err
	})
	return taken, err
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() // it was only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
