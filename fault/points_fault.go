//go:build fault

package fault

// Points are the steps whose sides, .before and .after, are the points: each
// with the part of the campaign that walks over it (TestCrashCampaign in
// cmd/acquirer). Hit refuses any other name.
var Points = map[string]string{
	"store.migrate":    "start",
	"owed.mark":        "start",
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
	"rotate.house":    "keys",
}
