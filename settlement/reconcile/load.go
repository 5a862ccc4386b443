package reconcile

import (
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
	"acquirer/routing/wallet"
	"acquirer/settlement"
	"acquirer/settlement/bankfile"
	"acquirer/settlement/clearing"
	"acquirer/store"
)

// The kinds of a statement's lines, beside those of clearing.
const (
	kindPayout  clearing.Kind = "payout"
	kindReturn  clearing.Kind = "return"
	kindReceipt clearing.Kind = "receipt"
	kindBatch   clearing.Kind = "batch" // all payouts of a message in one sum
)

// File is something to load: whose, of which day, and a way to read it from
// its beginning, more than once.
type File struct {
	Source  string
	Date    calendar.Date
	Part    string // which of the day's files, where a day has several (ZM): its name; else empty
	Name    string
	SHA     string // SHA-256 of the bytes, in hex
	Records func() iter.Seq2[clearing.Record, error]
	// Credits is what others paid in, of the bank's statement; nil of other files.
	Credits func() iter.Seq2[settlement.Credit, error]
}

// NoBill ends the name of a file that stands for a wallet's word that it has no
// bill of a day: nothing was paid or went back.
const NoBill = ".nobill"

// OpenFile recognises a file: a network's clearing file says whose it is and of
// which day; for a ZM file, a wallet's bill and a statement that does not, the
// source must be given, and for all but a ZM file, which has it in its name, the date. The file must not change while it
// is loaded; end closes it.
func (e *Engine) OpenFile(path, source string, date calendar.Date) (f File, end func() error, err error) {
	in, err := os.Open(path)
	if err != nil {
		return File{}, nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, in.Close())
		}
	}()
	info, err := in.Stat()
	if err != nil {
		return File{}, nil, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return File{}, nil, fmt.Errorf("reconcile: reading %s: %w", path, err)
	}
	f = File{Source: source, Date: date, Name: filepath.Base(path), SHA: hex.EncodeToString(sum.Sum(nil))}
	whole := func() io.Reader { return io.NewSectionReader(in, 0, info.Size()) }
	if info.Size() == 0 && !strings.Contains(f.Name, "ZM_") { // a ZM file of a quiet day has no line, and no other
		return File{}, nil, fmt.Errorf("reconcile: %s is empty", f.Name)
	}
	begin := make([]byte, min(info.Size(), 16))
	if _, err := in.ReadAt(begin, 0); err != nil && !errors.Is(err, io.EOF) {
		return File{}, nil, err
	}
	_, statement := bankfile.IsStatement(whole())
	switch {
	case strings.HasPrefix(string(begin), "H|"):
		r, err := clearing.NewReader(whole())
		if err != nil {
			return File{}, nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		h := r.Header()
		if err := h.For(e.cfg.Acquirer); err != nil {
			return File{}, nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if err := says(f.Name, source, h.Source, date, h.Date); err != nil {
			return File{}, nil, err
		}
		f.Source, f.Date = h.Source, h.Date
		f.Records = func() iter.Seq2[clearing.Record, error] { return networkRecords(whole()) }
	case statement:
		st, _, err := bankfile.ReadStatement(whole())
		if err != nil {
			return File{}, nil, fmt.Errorf("%s: %w", f.Name, err)
		}
		if ours := e.cfg.Account; ours != "" && strings.ReplaceAll(st.Account, " ", "") != strings.ReplaceAll(ours, " ", "") {
			return File{}, nil, fmt.Errorf("reconcile: %s is the statement of the account that ends in %s, and ours (settlement.account) ends in %s", f.Name, ending(st.Account), ending(ours))
		}
		f.Source, f.Date = Bank, st.Day // whatever its name says: many banks put the day after there
		f.Records = func() iter.Seq2[clearing.Record, error] { return statementRecords(whole()) }
		f.Credits = func() iter.Seq2[settlement.Credit, error] { return settlement.StatementCredits(whole()) }
	case strings.Contains(f.Name, "ZM_"):
		if err := f.named(date); err != nil {
			return File{}, nil, err
		}
		f.Records = func() iter.Seq2[clearing.Record, error] { return clearing.ReadZM(whole(), e.cfg.Acquirer) }
	case strings.Contains(f.Name, "ZME_"):
		return File{}, nil, fmt.Errorf("reconcile: %s is a file of errors, which opens disputes: acquirer dispute import", f.Name)
	case e.wallet(source) != "" && filepath.Ext(path) == NoBill:
		f.Records = func() iter.Seq2[clearing.Record, error] { return func(func(clearing.Record, error) bool) {} }
	case e.wallet(source) != "":
		f.Records = func() iter.Seq2[clearing.Record, error] { return billRecords(source, f.Date, in, info.Size()) }
	default:
		return File{}, nil, unknown(f.Name, begin)
	}
	if f.Source == "" || !f.Date.Valid() {
		return File{}, nil, fmt.Errorf("reconcile: %s does not say whose it is and of which day; name source and date", f.Name)
	}
	return f, in.Close, nil
}

// says compares what a file says of itself with what was said of it; an empty
// source and no date say nothing.
func says(name, source, of string, date, day calendar.Date) error {
	switch {
	case source != "" && source != of:
		return fmt.Errorf("reconcile: %s is %s's, and was given as %s's", name, of, source)
	case date != 0 && date != day:
		return fmt.Errorf("reconcile: %s is of %s, and its name or --date says %s", name, day, date)
	}
	return nil
}

// ending is the last four characters of an account number.
func ending(account string) string { return account[max(0, len(account)-4):] }

// unknown says why nobody knows what a file is, by how it begins.
func unknown(name string, begin []byte) error {
	why := "it begins with neither H|NETWORK-CLEAR| nor the head of a statement, and is not called ...ZM_...; for a wallet's bill name its source"
	for _, mark := range []string{"\xef\xbb\xbf", "\xff\xfe", "\xfe\xff"} {
		if strings.HasPrefix(string(begin), mark) {
			why = fmt.Sprintf("it begins with a byte order mark (% x): a text in Unicode, changed on its way; these files are plain ASCII", mark)
		}
	}
	return fmt.Errorf("reconcile: %s: %w", name, &clearing.Error{Line: 1, Column: 1, What: why})
}

func networkRecords(r io.Reader) iter.Seq2[clearing.Record, error] {
	return func(yield func(clearing.Record, error) bool) {
		in, err := clearing.NewReader(r)
		if err != nil {
			yield(clearing.Record{}, err)
			return
		}
		in.Records()(yield)
	}
}

// billRecords are a wallet's. Money that went back by a refund has the refund's
// number; by a cancel or void, its payment's. One of another day is refused whole.
func billRecords(name string, day calendar.Date, r io.ReaderAt, size int64) iter.Seq2[clearing.Record, error] {
	return func(yield func(clearing.Record, error) bool) {
		for b, err := range wallet.ReadBill(name, day, r, size) {
			if err != nil {
				yield(clearing.Record{}, err)
				return
			}
			rec := clearing.Record{Line: b.Line, Kind: clearing.Sale, RRN: b.Order, Terminal: b.Terminal, Amount: b.Amount, IssuerFee: b.Fee}
			switch b.Kind {
			case wallet.BillRefund:
				rec.Kind, rec.RRN, rec.Original, rec.Amount = clearing.Refund, b.Refund, b.Order, -b.Amount
			case wallet.BillRevoked:
				rec.Kind, rec.Original, rec.Amount = clearing.Reversal, b.Order, -b.Amount
			}
			rec.Net = rec.Amount - rec.IssuerFee
			if !yield(rec, nil) {
				return
			}
		}
	}
}

// statementRecords are the movements of a bank's statement that are ours:
// payouts, one by one or as the sum of a message, returns and receipts. The bank's
// own fees are left out.
func statementRecords(r io.Reader) iter.Seq2[clearing.Record, error] {
	return func(yield func(clearing.Record, error) bool) {
		_, entries, err := bankfile.ReadStatement(r)
		if err != nil {
			yield(clearing.Record{}, err)
			return
		}
		n := 0 // two movements may stand in one line of XML
		for x, err := range entries {
			if err != nil {
				yield(clearing.Record{}, err)
				return
			}
			n++
			rec := clearing.Record{Line: n, RRN: x.Reference, Amount: x.Amount, Net: x.Amount}
			switch {
			case x.Kind == bankfile.Payout && x.Batch != "":
				rec.Kind, rec.RRN, rec.Orders = kindBatch, x.Batch, x.Count
			case x.Kind == bankfile.Payout && x.Reference != "":
				rec.Kind = kindPayout
			case x.Kind == bankfile.Return && x.Reference != "":
				rec.Kind = kindReturn
			case x.Kind == bankfile.Receipt || x.Kind == bankfile.Other && x.Credit:
				rec.Kind = kindReceipt
			default:
				continue
			}
			if !yield(rec, nil) {
				return
			}
		}
	}
}

var (
	// ErrRepeated says that the same file was loaded before.
	ErrRepeated = errors.New("it was loaded before")
	// ErrUnmoved is ErrRepeated under the name that the file had then.
	ErrUnmoved = fmt.Errorf("%w under this name", ErrRepeated)
	// ErrFile says that something is wrong with a file, not with the house: it
	// will not be better the next time. ErrRepeated and ErrAnother are ErrFile.
	ErrFile = errors.New("the file is refused")
	// ErrAnother says that another file of the same source and day was loaded.
	ErrAnother = errors.New("another file of the day was loaded before")
)

const (
	fileLoading  = 1
	fileLoaded   = 2
	fileCompared = 3

	lineNew     = 1
	lineMatched = 2
	lineBreak   = 3
)

// loadBatch is how many lines one transaction writes or compares: the one
// writer of SQLite also serves the terminals and must not be held long.
const loadBatch = 200

// Load takes a file in: it is read to its end once, and only then written line
// by line and, as a whole, counted. A load that was interrupted is carried on.
// ErrRepeated and ErrAnother change nothing. What others paid in by a statement
// that counts is booked, where the books take credits: a bank may give its
// statements as files alone, and the same entry over two ways counts once.
func (e *Engine) Load(ctx context.Context, f File, now time.Time) (clearing.Totals, error) {
	if f.Credits == nil || !e.cfg.Books.TakesCredits() {
		return e.load(ctx, f, now)
	}
	for c, err := range f.Credits() {
		if err == nil {
			err = e.cfg.Books.CheckCredit(ctx, c)
		}
		var wrong *bankfile.Error
		switch {
		case errors.As(err, &wrong):
			return clearing.Totals{}, fmt.Errorf("reconcile: %w: %s: %w", ErrFile, f.Name, err)
		case err != nil:
			return clearing.Totals{}, fmt.Errorf("reconcile: reading %s: %w", f.Name, err)
		}
	}
	totals, err := e.load(ctx, f, now)
	if err != nil && !errors.Is(err, ErrUnmoved) { // the run that loaded it may have ended before it booked them
		return totals, err
	}
	for c, bad := range f.Credits() {
		if bad == nil {
			bad = e.cfg.Books.TakeCredit(ctx, c, now)
		}
		if bad != nil {
			return totals, fmt.Errorf("reconcile: booking what came by %s: %w", f.Name, bad)
		}
	}
	return totals, err
}

func (e *Engine) load(ctx context.Context, f File, now time.Time) (clearing.Totals, error) {
	var totals clearing.Totals
	if f.Source != Bank && !e.knows(f.Source) {
		return totals, fmt.Errorf("reconcile: %w: %s is of %q, which is no source here (clearing.sources)", ErrFile, f.Name, f.Source)
	}
	open, err := e.cfg.Books.OpenDate(ctx)
	if err != nil {
		return totals, err
	}
	today := max(calendar.DateOf(now), open)
	if f.Date > today {
		return totals, fmt.Errorf("reconcile: %w: %s is of %s, which has not begun: today is %s", ErrFile, f.Name, f.Date, today)
	}
	for r, err := range f.Records() {
		if err != nil {
			return totals, fmt.Errorf("reconcile: %w: %s: %w", ErrFile, f.Name, err)
		}
		if err := totals.Add(&r); err != nil {
			return totals, fmt.Errorf("reconcile: %w: %s: line %d: the sum does not fit: %w", ErrFile, f.Name, r.Line, err)
		}
	}
	// Nothing of theirs can be ours then. A file without a line may be what the
	// first date waits for.
	if totals.Count > 0 && e.cfg.Began != nil {
		began, err := e.cfg.Began(ctx)
		if err != nil {
			return totals, err
		}
		if began == 0 {
			began = today
		}
		if f.Date < began {
			return totals, fmt.Errorf("reconcile: %w: %s is of %s, before this house began: its first business date is %s", ErrFile, f.Name, f.Date, began)
		}
	}
	if totals.Count == 0 {
		f.SHA += "@" + f.Source + "@" + f.Date.String() + f.Part // files of quiet days that do not say whose and of when they are are all the same
	}
	id, err := e.openFile(ctx, &f, totals, now)
	if err != nil {
		return totals, err
	}
	batch := make([]clearing.Record, 0, loadBatch)
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		fault.Hit("reconcile.lines.before")
		err := e.db.Write(ctx, func(tx store.Tx) error {
			if _, err := stillLoading(tx, id, &f); err != nil {
				return err
			}
			return e.insert(tx, id, &f, batch)
		})
		fault.Hit("reconcile.lines.after")
		if err != nil {
			return fmt.Errorf("reconcile: loading %s: %w", f.Name, err)
		}
		batch = batch[:0]
		return nil
	}
	written := 0
	for r, err := range f.Records() {
		if err != nil {
			return totals, fmt.Errorf("reconcile: %s changed while it was loaded: %w", f.Name, err)
		}
		batch = append(batch, r)
		if written++; len(batch) == loadBatch {
			if err := flush(); err != nil {
				return totals, err
			}
		}
	}
	if err := flush(); err != nil {
		return totals, err
	}
	if written != totals.Count {
		return totals, fmt.Errorf("reconcile: %s changed while it was loaded: %d lines, then %d", f.Name, totals.Count, written)
	}
	fault.Hit("reconcile.loaded.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		if done, err := stillLoading(tx, id, &f); err != nil || done {
			return err
		}
		var n int
		if err := tx.QueryRow("select count(*) from recon_line where file = $1", id).Scan(&n); err != nil {
			return err
		}
		if n != totals.Count {
			return fmt.Errorf("%d of %d lines are there", n, totals.Count)
		}
		if _, err := settlement.LockTx(tx); err != nil { // one after the other: the first one says how the day comes
			return err
		}
		if err := oneWay(tx, &f); err != nil {
			return err
		}
		_, err := tx.Exec("update recon_file set state = $1 where id = $2", fileLoaded, id)
		return err
	})
	fault.Hit("reconcile.loaded.after")
	if err != nil {
		return totals, fmt.Errorf("reconcile: loading %s: %w", f.Name, err)
	}
	return totals, nil
}

// stillLoading locks a file's row and makes sure that it is of this file: another
// node may have begun to load another one of the source and day in its place.
// done reports that another node has loaded this one meanwhile.
func stillLoading(tx store.Tx, id int64, f *File) (done bool, err error) {
	var sha, name string
	var state int
	if err := tx.QueryRow("select sha, name, state from recon_file where id = $1 for update", id).Scan(&sha, &name, &state); err != nil {
		return false, err
	}
	if sha != f.SHA {
		return false, fmt.Errorf("%w: %w: %s's of %s is %s, which came while this one was loaded", ErrFile, ErrAnother, f.Source, f.Date, name)
	}
	return state != fileLoading, nil
}

func (e *Engine) knows(source string) bool {
	for _, s := range e.cfg.Sources {
		if s.Name == source {
			return true
		}
	}
	return false
}

// openFile finds the row of a file that is being loaded, or makes it.
func (e *Engine) openFile(ctx context.Context, f *File, t clearing.Totals, now time.Time) (id int64, err error) {
	fault.Hit("reconcile.load.before")
	err = e.db.Write(ctx, func(tx store.Tx) error {
		// Half loaded as another's or of another day, it has never counted.
		if _, err := tx.Exec("delete from recon_line where file in (select id from recon_file where sha = $1 and state = $2 and (source <> $3 or date <> $4 or part <> $5))", f.SHA, fileLoading, f.Source, f.Date, f.Part); err != nil {
			return err
		}
		if _, err := tx.Exec("delete from recon_file where sha = $1 and state = $2 and (source <> $3 or date <> $4 or part <> $5)", f.SHA, fileLoading, f.Source, f.Date, f.Part); err != nil {
			return err
		}
		id = store.NewID()
		if _, err := tx.Exec(`insert into recon_file (id, source, date, part, name, sha, lines, amount, fees, net, state, loaded)
			values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12) on conflict do nothing`,
			id, f.Source, f.Date, f.Part, f.Name, f.SHA, t.Count, t.Amount, t.IssuerFee+t.NetworkFee+t.BrandFee, t.Net, fileLoading, now.UnixMicro()); err != nil {
			return err
		}
		var name, sha string
		var source string
		var date calendar.Date
		var state int
		if err := tx.QueryRow("select id, name, sha, state, source, date from recon_file where source = $1 and date = $2 and part = $4 or sha = $3 order by sha = $3 desc limit 1", f.Source, f.Date, f.SHA, f.Part).
			Scan(&id, &name, &sha, &state, &source, &date); err != nil {
			return err
		}
		switch {
		case sha == f.SHA && state == fileLoading:
			return oneWay(tx, f)
		case sha == f.SHA && name == f.Name && source == f.Source && date == f.Date:
			return fmt.Errorf("%w: %w: %s's of %s", ErrFile, ErrUnmoved, source, date)
		case sha == f.SHA:
			return fmt.Errorf("%w: %w: as %s, %s's of %s", ErrFile, ErrRepeated, name, source, date)
		case state != fileLoading:
			return fmt.Errorf("%w: %w: %s's of %s is %s; what it got wrong comes in a later day's file", ErrFile, ErrAnother, source, date, name)
		}
		// One that never counted is replaced.
		if err := oneWay(tx, f); err != nil {
			return err
		}
		if _, err := tx.Exec("delete from recon_line where file = $1", id); err != nil {
			return err
		}
		_, err := tx.Exec("update recon_file set name = $1, sha = $2, lines = $3, amount = $4, fees = $5, net = $6, loaded = $7 where id = $8",
			f.Name, f.SHA, t.Count, t.Amount, t.IssuerFee+t.NetworkFee+t.BrandFee, t.Net, now.UnixMicro(), id)
		return err
	})
	fault.Hit("reconcile.load.after")
	if err != nil {
		return 0, fmt.Errorf("reconcile: %s: %w", f.Name, err)
	}
	return id, nil
}

const lineColumns = "id, file, n, source, date, kind, rrn, ours, terminal, merchant, amount, issuer_fee, network_fee, brand_fee, orders, state"

// theirColumns are those of a line and the part of its file.
const theirColumns = lineColumns + ", (select f.part from recon_file f where f.id = recon_line.file)"

func (e *Engine) insert(tx store.Tx, file int64, f *File, batch []clearing.Record) error {
	for i := range batch {
		r := &batch[i]
		ours := int64(0)
		if f.Source != Bank {
			if id, ok := e.cfg.ID(r.RRN); ok {
				if ours = id; r.Kind == clearing.Reversal {
					ours = -id
				}
			}
		}
		if _, err := tx.Exec("insert into recon_line ("+lineColumns+") values ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16) on conflict (file, n) do nothing",
			store.NewID(), file, r.Line, f.Source, f.Date, string(r.Kind), r.RRN, ours, r.Terminal, r.Merchant, r.Amount, r.IssuerFee, r.NetworkFee, r.BrandFee, r.Orders, lineNew); err != nil {
			return err
		}
	}
	return nil
}

// theirs is a line of a file as it is stored.
type theirs struct {
	id, file, n      int64
	source           string
	date             calendar.Date
	kind             clearing.Kind
	rrn              string
	ours             int64
	terminal         string
	merchant         string
	amount           money.Amount
	issuer, net, brd money.Amount // fees
	orders           int          // of a batch
	state            int
	part             string // of its file
}

func (t *theirs) fee() money.Amount     { return t.issuer + t.net + t.brd }
func (t *theirs) settles() money.Amount { return t.amount - t.fee() }

func scanTheirs(r *store.Rows, t *theirs) error {
	return r.Scan(&t.id, &t.file, &t.n, &t.source, &t.date, &t.kind, &t.rrn, &t.ours, &t.terminal, &t.merchant, &t.amount, &t.issuer, &t.net, &t.brd, &t.orders, &t.state, &t.part)
}
