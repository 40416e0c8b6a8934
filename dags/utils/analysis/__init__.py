"""Why a day was abnormal, which days belong to one event, where airports are, which days are excluded."""
