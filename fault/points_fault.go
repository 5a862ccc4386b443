//go:build fault

package fault

// Points are the steps whose sides, .before and .after, are the points: each
// with the part of the campaign that walks over it (TestCrashCampaign in
// cmd/acquirer), or deed for what is done now and then, by people and files
// (TestCrashDeeds). Hit refuses any other name.
var Points = map[string]string{
	"store.migrate":    "start",
	"store.tables":     "start",
	"owed.mark":        "start",
	"limits.begin":     "start",
	"plans.save":       "start",
	"store.commit":     "street",
	"store.checkpoint": "street",
	"store.mark":       "street",

	"journal.open":      "street",
	"journal.close":     "street",
	"journal.reverse":   "street",
	"journal.take_back": "street",

	"owed.let_go":     "street",
	"owed.interrupt":  "street",
	"owed.claim":      "street",
	"owed.send":       "street",
	"owed.reschedule": "street",
	"owed.settle":     "street",

	"issuer.write":    "street",
	"terminal.answer": "street",
	"wallet.ask":      "street",

	"batch.totals": "street",
	"batch.upload": "street",
	"batch.end":    "street",

	"house.key":         "start",
	"house.keybook":     "start",
	"zone.claim":        "street",
	"zone.key":          "street",
	"zone.release":      "street",
	"registry.put":      "start",
	"registry.change":   "street",
	"download.content":  "start",
	"download.terminal": "street",

	"settlement.post":    "street",
	"settlement.begin":   "settle",
	"settlement.gather":  "settle",
	"settlement.net":     "settle",
	"settlement.finish":  "settle",
	"settlement.receive": "settle",

	"payout.claim":   "settle",
	"payout.send":    "settle",
	"payout.unclaim": "settle",
	"payout.move":    "settle",
	"payout.cursor":  "settle",

	"keyfile.replace": "keys",
	"registry.rewrap": "keys",
	"registry.inject": "keys",
	"rotate.begin":    "keys",
	"rotate.house":    "keys",
	"rotate.rewind":   "keys",
	"rotate.finish":   "keys",
	"keylog.append":   "keys",

	"journal.move":      "street",
	"journal.signature": "street",
	"journal.stray":     "street",
	"journal.cut_over":  "deed",
	"batch.resolve":     "deed",
	"owed.hurry":        "deed",

	"limits.stand_in": "deed",
	"limits.forget":   "deed",

	"bankfile.order":     "deed",
	"bankfile.gather":    "deed",
	"bankfile.write":     "deed",
	"bankfile.written":   "deed",
	"bankfile.begin":     "deed",
	"bankfile.lines":     "deed",
	"bankfile.load":      "deed",
	"bankfile.accept":    "deed",
	"bankfile.refuse":    "deed",
	"bankfile.set_aside": "deed",

	"payout.repay":   "deed",
	"payout.strange": "deed",
	"payout.recover": "deed",
	"payout.decide":  "deed",
	"payout.reissue": "deed",

	"settlement.extras":    "deed",
	"settlement.extra_fee": "deed",
	"settlement.fast":      "deed",
	"settlement.earn":      "deed",
	"account.ask":          "deed",
	"account.move":         "deed",
	"hold.ask":             "deed",
	"hold.move":            "deed",
	"task.add":             "deed",
	"task.done":            "deed",
	"ledger.post":          "deed",

	"reconcile.load":      "deed",
	"reconcile.lines":     "deed",
	"reconcile.loaded":    "deed",
	"reconcile.taken":     "deed",
	"reconcile.theirs":    "deed",
	"reconcile.ours":      "deed",
	"reconcile.bank":      "deed",
	"reconcile.terminals": "deed",
	"reconcile.receipts":  "deed",
	"reconcile.again":     "deed",
	"reconcile.age":       "deed",
	"reconcile.day":       "deed",
	"reconcile.resolve":   "deed",
	"reconcile.sign":      "deed",
	"reconcile.complete":  "deed",

	"inbox.put_away": "deed",
	"inbox.bill":     "deed",

	"dispute.tell":    "deed",
	"dispute.move":    "deed",
	"dispute.attach":  "deed",
	"dispute.unknown": "deed",

	"plans.sign":   "deed",
	"plans.tell":   "deed",
	"plans.date":   "deed",
	"plans.answer": "deed",
	"plans.move":   "deed",

	"audit.append":   "deed",
	"lines.order":    "deed",
	"keybook.gone":   "deed",
	"keyfile.create": "deed",
}
