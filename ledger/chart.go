// Package ledger keeps the money in double entry: accounts in two books, the
// safeguarded money of merchants (CLIENT) and the acquirer's own (OWN), and
// transfers between accounts that never change once written. Every transfer
// balances within each book it touches.
package ledger

import (
	"fmt"
	"slices"
)

// Book is one of the two sets of accounts; each balances for itself.
type Book uint8

// CLIENT holds what belongs to merchants and what is earned from it until it
// is swept; OWN holds the acquirer's funds.
const (
	Client Book = iota + 1
	Own
)

func (b Book) String() string {
	if b == Own {
		return "OWN"
	}
	return "CLIENT"
}

// Account is a code of the chart of accounts.
type Account int16

// The chart of accounts. An account with sub-accounts (a merchant's MID, a QR
// channel) also keeps their sum as its control balance.
const (
	ClientBank        Account = 1001 // 银行存款
	OwnBank           Account = 1002 // own bank account
	NetworkReceivable Account = 1101 // 应收银联
	QRReceivable      Account = 1102 // 应收(渠道), one sub-account per channel
	AdvanceD0         Account = 1201 // 其他垫资: own money lent until the network pays
	AdvanceRisk       Account = 1202 // 风险垫资: losses financed by us
	Arrears           Account = 1301 // a merchant's negative balance, moved here
	SuspenseShort     Account = 1901 // 短款: booked, not received
	MerchantPayable   Account = 2101 // 商户待清算款, one sub-account per merchant
	PayoutInTransit   Account = 2102 // sent to the bank, answer outstanding
	PayoutReturned    Account = 2103 // 退票: came back, to be issued again
	MerchantFrozen    Account = 2104 // 风控冻结
	MerchantDeposit   Account = 2105 // 商户保证金
	DueToOwnAdvance   Account = 2201 // what CLIENT owes OWN for advances
	DueToPayout       Account = 2202 // 应付银联代付垫资
	SuspenseLong      Account = 2301 // 已入未登账: received, not booked
	AgentProfit       Account = 2401 // 代理商收入
	DueToOwnIncome    Account = 2501 // 未划收入: income not yet swept
	OwnCapital        Account = 3001 // funds put in by the acquirer
	IncomeRate        Account = 4101 // 收单收入: the fee by rate
	IncomeFixed       Account = 4102 // the fixed fee per transaction
	IncomeD0          Account = 4103 // the fee for being paid early
	IncomeDevice      Account = 4104 // devices, SIM years, repairs
	IncomeOwn         Account = 4901 // income swept into OWN
	CostIssuer        Account = 5101 // 发卡
	CostNetwork       Account = 5102 // 转接
	CostBrand         Account = 5103 // 品牌
	CostPayout        Account = 5104 // 代付
	CostErrors        Account = 5105 // 差错
	WriteOff          Account = 5901 // given up
)

// Side is which side of an account grows it.
type Side uint8

// Debit-normal accounts are assets and costs, credit-normal ones liabilities
// and income.
const (
	Debit Side = iota + 1
	Credit
)

func (s Side) String() string {
	if s == Credit {
		return "C"
	}
	return "D"
}

type entry struct {
	name  string
	side  Side
	book  Book
	floor bool // never overdrawn, but by events that may (Event.overdraws)
}

var chart = map[Account]entry{
	ClientBank:        {"client bank deposit", Debit, Client, false},
	OwnBank:           {"own bank account", Debit, Own, true},
	NetworkReceivable: {"network receivable", Debit, Client, false},
	QRReceivable:      {"QR channel receivable", Debit, Client, false},
	AdvanceD0:         {"D0 advance outstanding", Debit, Own, true},
	AdvanceRisk:       {"risk advance", Debit, Own, true},
	Arrears:           {"merchant arrears", Debit, Client, true},
	SuspenseShort:     {"suspense, short items", Debit, Client, false},
	MerchantPayable:   {"merchant payable", Credit, Client, true},
	PayoutInTransit:   {"payouts in transit", Credit, Client, true},
	PayoutReturned:    {"returned payouts", Credit, Client, true},
	MerchantFrozen:    {"merchant money frozen", Credit, Client, true},
	MerchantDeposit:   {"merchant deposits", Credit, Client, true},
	DueToOwnAdvance:   {"due to OWN for advances", Credit, Client, true},
	DueToPayout:       {"due to payout channel", Credit, Client, false},
	SuspenseLong:      {"suspense, long items", Credit, Client, false},
	AgentProfit:       {"agent profit", Credit, Client, false},
	DueToOwnIncome:    {"due to OWN, income", Credit, Client, false},
	OwnCapital:        {"own capital", Credit, Own, false},
	IncomeRate:        {"income, rate", Credit, Client, false},
	IncomeFixed:       {"income, fixed fee", Credit, Client, false},
	IncomeD0:          {"income, D0 fee", Credit, Client, false},
	IncomeDevice:      {"income, devices", Credit, Client, false},
	IncomeOwn:         {"income swept", Credit, Own, false},
	CostIssuer:        {"cost, issuer fee", Debit, Client, false},
	CostNetwork:       {"cost, network fee", Debit, Client, false},
	CostBrand:         {"cost, brand fee", Debit, Client, false},
	CostPayout:        {"cost, payouts", Debit, Own, false},
	CostErrors:        {"cost, error handling", Debit, Client, false},
	WriteOff:          {"write-off", Debit, Client, false},
}

// Chart lists the accounts by code.
func Chart() []Account {
	all := make([]Account, 0, len(chart))
	for a := range chart {
		all = append(all, a)
	}
	slices.Sort(all)
	return all
}

// Name, Side and Book are what the chart says of the account.
func (a Account) Name() string { return chart[a].name }
func (a Account) Side() Side   { return chart[a].side }
func (a Account) Book() Book   { return chart[a].book }

// String is the code and the name: "2101 merchant payable".
func (a Account) String() string { return fmt.Sprintf("%d %s", int16(a), chart[a].name) }

// Event says what a transfer stands for.
type Event string

// The events of the posting templates.
const (
	EventSale           Event = "SALE"
	EventReversal       Event = "REVERSAL" // a void or a reversal: the exact mirror of its sale
	EventRefund         Event = "REFUND"
	EventAdjustment     Event = "ADJUSTMENT" // of a sale, by the difference: a tip, or less than was sold
	EventNetworkReceipt Event = "NETWORK_RECEIPT"
	EventCredit         Event = "CREDIT"      // money came, and nobody knows yet what it pays for
	EventCreditBack     Event = "CREDIT_BACK" // it went back to whoever paid it
	EventPayoutReserve  Event = "PAYOUT_RESERVE"
	EventPayoutSuccess  Event = "PAYOUT_SUCCESS"
	EventPayoutFailed   Event = "PAYOUT_FAILED"
	EventPayoutReturned Event = "PAYOUT_RETURNED"
	EventPayoutReissue  Event = "PAYOUT_REISSUE"
	EventPayoutLong     Event = "PAYOUT_LONG" // the bank paid what was booked as failed
	EventPayoutCost     Event = "PAYOUT_COST"
	EventAdvance        Event = "ADVANCE"
	EventAdvanceRepaid  Event = "ADVANCE_REPAID"
	EventD0Fee          Event = "D0_FEE"
	EventExtraFee       Event = "EXTRA_FEE"
	EventHold           Event = "HOLD"
	EventRelease        Event = "RELEASE"
	EventChargeback     Event = "CHARGEBACK"
	EventChargebackWon  Event = "CHARGEBACK_WON"
	EventArrears        Event = "ARREARS"
	EventLongItem       Event = "LONG_ITEM"
	EventShortItem      Event = "SHORT_ITEM"
	EventLongResolved   Event = "LONG_RESOLVED"
	EventShortResolved  Event = "SHORT_RESOLVED"
	EventFeeDifference  Event = "FEE_DIFFERENCE"
	EventClose          Event = "DAILY_CLOSE"
	EventSweep          Event = "SWEEP"
	EventOwnFunds       Event = "OWN_FUNDS"
)

// overdraws says that the event may take an account below zero: the money is
// already gone, and what a merchant lacks is collected from later sales. A sale
// takes from its merchant where its plan lets the fee be more than the sale.
func (e Event) overdraws() bool {
	switch e {
	case EventSale, EventReversal, EventRefund, EventAdjustment, EventChargeback, EventD0Fee, EventExtraFee, EventShortResolved, EventPayoutLong, EventPayoutCost:
		return true
	}
	return false
}
